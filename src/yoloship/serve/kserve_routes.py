"""The addresses of KServe's open inference protocol, version 2, and of Triton's extensions to it: `KSERVE`."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import Response

from yoloship._util.fields import is_int, shown
from yoloship._version import __version__
from yoloship.errors import CudaError, InputError
from yoloship.kserve.codec import HEAD_LENGTH, decode_request, encode_answer, head_length
from yoloship.kserve.json_tensors import parse
from yoloship.kserve.tensors import DEFAULT_LIMITS, InferAnswer, Tensor
from yoloship.serve.answers import json_response, server_timing
from yoloship.serve.bodies import body_with_room, read_body
from yoloship.serve.engine import Times
from yoloship.serve.errors import LateError, NotFoundError
from yoloship.serve.kserve_models import VERSION, config_of, datatype_of, metadata_of, statistics_of
from yoloship.serve.kserve_network import Network
from yoloship.serve.state import state_of
from yoloship.serve.waiting import unless_client_leaves, until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from yoloship.kserve.codec import Encoded
    from yoloship.kserve.tensors import InferRequest
    from yoloship.serve.engine import ModelHost
    from yoloship.serve.kserve_network import Ran

    _Handler = Callable[[Request], Awaitable[Response]]
    _Address = tuple[str, str, _Handler, str, bool]

_EXTENSIONS: Final = ("binary_tensor_data", "model_configuration", "statistics")
_LIMITS: Final = replace(DEFAULT_LIMITS, head_bytes=256 << 10, texts=1000)
_SMALL_BYTES: Final = 64 << 10
"""JSON up to this length is read and written in the event loop's thread, in less than a millisecond."""
_SMALL_ELEMENTS: Final = 2000


async def live(_: Request) -> Response:
    """Say that the process is alive."""
    return json_response({"live": True})


async def ready(request: Request) -> Response:
    """Whether all models answer."""
    is_ready = state_of(request).models.is_ready
    return json_response({"ready": is_ready}, 200 if is_ready else 503)


async def server(_: Request) -> Response:
    """The name, version and extensions of this server."""
    return json_response({"name": "yoloship", "version": __version__, "extensions": list(_EXTENSIONS)})


async def model_ready(request: Request) -> Response:
    """Whether a model answers."""
    host = _host(request)
    return json_response({"name": host.name, "ready": host.is_ready}, 200 if host.is_ready else 503)


async def model(request: Request) -> Response:
    """The inputs and outputs of a model."""
    host = _host(request)
    return json_response(metadata_of(host.name, Network.of(host.loaded)))


async def config(request: Request) -> Response:
    """The configuration of a model."""
    host = _host(request)
    return json_response(config_of(host.name, Network.of(host.loaded), host.loaded.detector.info))


async def stats(request: Request) -> Response:
    """What a model, or each model, has done with tensors."""
    models = state_of(request).models
    hosts = [_host(request)] if "name" in request.path_params else [host for host in models if host.is_loaded]
    return json_response({"model_stats": [statistics_of(host.name, host.loaded.network) for host in hosts]})


async def index(request: Request) -> Response:
    """All models and whether they answer."""
    state = state_of(request)
    only_ready = False
    if request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers:
        limits = replace(state.settings.limits, max_body_bytes=4096)
        body = await read_body(request, limits, state.bodies, request.state.came_s + limits.body_timeout_s)
        state.bodies.release(len(body))
        asked = parse(body, _LIMITS)
        if not set(asked) <= {"ready"} or not isinstance(asked.get("ready", False), bool):
            raise InputError("wrong request", expected='{"ready": true} or nothing', got=shown(asked))
        only_ready = asked.get("ready", False)
    rows = [
        {
            "name": host.name,
            "version": VERSION,
            "state": "READY" if host.is_ready else "UNAVAILABLE",
            "reason": host.problem,
        }
        for host in state.models
        if host.is_ready or not only_ready
    ]
    return json_response(rows)


def _host(request: Request) -> ModelHost:
    """The model of an address.

    Raises:
        NotFoundError: there is no such model, or not this version.
    """
    host = state_of(request).models.host(request.path_params["name"])
    version = request.path_params.get("version", VERSION)
    if version != VERSION:
        raise NotFoundError(
            "there is no such version of the model", subject=host.name, expected=VERSION, got=version[:80]
        )
    return host


async def infer(request: Request) -> Response:
    """Run a model's network on tensors."""
    state, host = state_of(request), _host(request)
    Network.of(host.loaded)  # refuse what has no network before its body is read
    head_bytes = head_length(request.headers.get(HEAD_LENGTH))
    async with body_with_room(request, state, host) as (body, deadline_s):
        with host.lease() as loaded:
            asking = _Asking(request, host, Network.of(loaded), deadline_s)
            late = LateError("the deadline passed", subject=host.name)
            async with until(deadline_s, late), unless_client_leaves(request):
                encoded, ran, images = await _answer(asking, body, head_bytes, state.settings.limits.max_images)
        total_s = asyncio.get_running_loop().time() - request.state.came_s
        times = Times(0.0, ran.queue_s, ran.network_s, total_s, ran.images)
        for _ in range(images):
            state.metrics.image_done(host.name, times)
        return Response(encoded.body, headers={**encoded.headers, "Server-Timing": server_timing(times)})


@dataclass(frozen=True, slots=True)
class _Asking:
    """A request, and the network that it runs on."""

    request: Request
    host: ModelHost
    network: Network
    deadline_s: float


async def _answer(asking: _Asking, body: bytes, head_bytes: int | None, max_images: int) -> tuple[Encoded, Ran, int]:
    """The answer as bytes, its run, and how many images it had."""
    host, network = asking.host, asking.network
    asked = await _decoded(asking, body, head_bytes)
    deadline_s = min(asking.deadline_s, float(asking.request.state.came_s) + _timeout_s(asked))
    names = _wanted(asked, network)
    feeds = {one.name: one.array for one in asked.inputs}
    images = network.check(feeds)
    if images > max_images:
        raise InputError("too many images", expected=f"at most {max_images}", got=str(images))
    with host.admission.permit(images, deadline_s - asyncio.get_running_loop().time()):
        try:
            async with until(deadline_s, LateError("the deadline passed", subject=host.name)):
                ran = await network.run(feeds, images)
        except CudaError:
            host.note_run(is_lost=True)
            raise
        host.note_run(is_lost=False)
        return await _encoded(host, network, asked, ran, names), ran, images


async def _decoded(asking: _Asking, body: bytes, head_bytes: int | None) -> InferRequest:
    """The request of a body, whose parameters are known."""
    host = asking.host
    if head_bytes is None and len(body) > _SMALL_BYTES:
        left_s = asking.deadline_s - asyncio.get_running_loop().time()
        with host.admission.permit(1, left_s):  # it waits for its turn; how many images it has is not known yet
            async with asking.network.json_turn:
                asked = await host.call(lambda: decode_request(body, None, _LIMITS))
    else:
        asked = decode_request(body, head_bytes, _LIMITS)
    _check_parameters("the request", asked.parameters, {"binary_data_output": bool, "timeout": int})
    for tensor in asked.inputs:
        _check_parameters(tensor.name, tensor.parameters, {})
    for wanted in asked.outputs:
        _check_parameters(wanted.name, wanted.parameters, {"binary_data": bool})
    found: InferRequest = asked
    return found


def _check_parameters(subject: str, given: Any, known: dict[str, type]) -> None:
    for name, value in given.items():
        if type(value) is not known.get(name):
            raise InputError(
                f"the parameter {shown(name)} is not supported, or not with this value", subject=subject,
                expected=", ".join(known) or "none", got=shown(value),
            )  # fmt: skip


def _timeout_s(asked: InferRequest) -> float:
    """The seconds that a request allows itself: its parameter ``timeout``, in microseconds."""
    timeout = asked.parameters.get("timeout")
    if timeout is None:
        return float("inf")
    if not is_int(timeout, 1, 1 << 62):
        raise InputError("wrong value", subject="timeout", expected="microseconds above 0", got=shown(timeout))
    return timeout / 1e6


def _wanted(asked: InferRequest, network: Network) -> list[str]:
    """The names of the outputs to send, in the order in which they were asked for."""
    names = [spec.name for spec in network.outputs]
    unknown = next((one.name for one in asked.outputs if one.name not in names), None)
    if unknown is not None:
        raise InputError("the model has no such output", subject=unknown[:80], expected=", ".join(names)[:200])
    return [one.name for one in asked.outputs] or names


async def _encoded(host: ModelHost, network: Network, asked: InferRequest, ran: Ran, names: list[str]) -> Encoded:
    """The answer as bytes, written in a thread unless it is small."""
    by_name = {spec.name: (datatype_of(spec), array) for spec, array in zip(network.outputs, ran.outputs, strict=True)}

    def write() -> Encoded:
        tensors = tuple(Tensor.of(name, by_name[name][1]) for name in names)
        return encode_answer(InferAnswer(host.name, tensors, VERSION, asked.id), asked.is_binary)

    in_json = [name for name in names if not asked.is_binary(name)]
    elements = sum(by_name[name][1].size for name in in_json)
    if elements > _LIMITS.json_commas:
        raise InputError(
            "the outputs have too many elements for JSON", subject=", ".join(in_json)[:200],
            expected=f"at most {_LIMITS.json_commas:,}", got=f"{elements:,}", hint="ask for bytes: binary_data_output",
        )  # fmt: skip
    if sum(array.nbytes for _, array in by_name.values()) <= _SMALL_BYTES and elements <= _SMALL_ELEMENTS:
        return write()
    if elements <= _SMALL_ELEMENTS:
        encoded: Encoded = await host.call(write)
        return encoded
    async with network.json_turn:
        turned: Encoded = await host.call(write)
    return turned


def _both(method: str, path: str, handler: _Handler, summary: str) -> list[_Address]:
    """An address of a model, and the same with its version."""
    forms = ("/v2/models/{name}", "/v2/models/{name}/versions/{version}")
    return [(method, form + path, handler, summary, False) for form in forms]


KSERVE: Final[tuple[_Address, ...]] = (
    ("GET", "/v2/health/live", live, "KServe: whether the process is alive.", True),
    ("GET", "/v2/health/ready", ready, "KServe: whether all models are loaded and warm; 503 until then.", True),
    ("GET", "/v2", server, "KServe: the name, version and extensions of this server.", False),
    ("GET", "/v2/models/stats", stats, "Triton: what each model has done with tensors.", False),
    ("POST", "/v2/repository/index", index, "Triton: all models, and whether they answer.", False),
    *_both("GET", "", model, "KServe: the inputs and outputs of a model."),
    *_both("GET", "/ready", model_ready, "KServe: whether a model answers."),
    *_both("GET", "/config", config, "Triton: the configuration of a model."),
    *_both("GET", "/stats", stats, "Triton: what a model has done with tensors."),
    *_both("POST", "/infer", infer, "KServe: run the network of a model on tensors."),
)
"""Method, path, handler, summary, and whether it needs no API key, as `yoloship.serve.routes.Endpoint` has them."""
