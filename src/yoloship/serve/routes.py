"""The addresses of the server, and what each of them does: `ENDPOINTS`."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import Response

from yoloship.errors import YoloshipError
from yoloship.serve.answers import drawn_answer, is_quick, json_answer, json_response, server_timing, wanted_form
from yoloship.serve.bodies import body_with_room, images_of
from yoloship.serve.engine import Answer
from yoloship.serve.errors import FormError, LateError, forget_frames
from yoloship.serve.kserve_routes import KSERVE
from yoloship.serve.metrics import CONTENT_TYPE
from yoloship.serve.page.assets import ASSETS, asset
from yoloship.serve.queries import options_of
from yoloship.serve.state import state_of
from yoloship.serve.waiting import unless_client_leaves

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from starlette.requests import Request

    from yoloship._util.addresses import AddressRules
    from yoloship.detect.options import DetectOptions
    from yoloship.serve.bodies import GivenImage
    from yoloship.serve.engine import ModelHost

    Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address.

    Attributes:
        method: GET or POST.
        path: Its path, with the names of its parameters in braces.
        handler: Answers.
        summary: What it does, for the OpenAPI document.
        is_open: Whether it needs no API key.
        is_part: Whether it is a part of the page, which the description of the interface leaves out.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    is_open: bool = False
    is_part: bool = False


async def healthz(_: Request) -> Response:
    """Say that the process is alive."""
    return json_response({"status": "alive"})


async def readyz(request: Request) -> Response:
    """Whether all models are loaded and warm."""
    state = state_of(request)
    waiting = [host.name for host in state.models if not host.is_ready]
    if waiting:
        return json_response({"status": "loading", "models": waiting}, 503, {"Retry-After": "1"})
    return json_response({"status": "ready"})


async def openapi(request: Request) -> Response:
    """The OpenAPI document."""
    from yoloship.serve.openapi import document

    return json_response(document(_described_endpoints(), [host.name for host in state_of(request).models]))


async def docs(_: Request) -> Response:
    """The OpenAPI document as a page that needs nothing else."""
    from yoloship.serve.openapi import docs_page

    headers = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"}
    return Response(docs_page(_described_endpoints()), media_type="text/html", headers=headers)


async def metrics(request: Request) -> Response:
    """The metrics for Prometheus, written in a thread, because those of several processes are in many files."""
    return Response(await asyncio.to_thread(state_of(request).metrics.text), media_type=CONTENT_TYPE)


async def models(request: Request) -> Response:
    """All models, and the limits of a request."""
    state = state_of(request)
    limits = state.settings.limits
    return json_response(
        {
            "models": [_described(host) for host in state.models],
            "limits": {
                "body_bytes": limits.max_body_bytes,
                "image_pixels": limits.image.max_pixels,
                "images": limits.max_images,
            },
        }
    )


async def model(request: Request) -> Response:
    """One model."""
    return json_response(_described(state_of(request).models.host(request.path_params["name"])))


async def predict(request: Request) -> Response:
    """Run the model on one image or several."""
    state = state_of(request)
    host, rules = state.models.host(request.path_params["name"]), state.settings.addresses
    form = wanted_form(request.headers.get("accept", ""))
    options = options_of(request.query_params.multi_items(), host.loaded.detector)
    async with body_with_room(request, state, host) as (body, deadline_s):
        images, is_list = images_of(request, body, state.settings.limits, with_urls=rules is not None)
        if form != "json" and len(images) > 1:
            raise FormError("the response for several images can only be JSON", subject="Accept", got=form)
        with host.admission.permit(len(images), deadline_s - asyncio.get_running_loop().time()):
            wanted = _Wanted(options, deadline_s, form != "json", rules)
            async with unless_client_leaves(request):
                outcomes = await _answers(host, images, wanted)
            for _, outcome in outcomes:
                if isinstance(outcome, Answer):
                    state.metrics.image_done(host.name, outcome.times)
            return await _response(host, outcomes, form, is_list=is_list)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a request wants for each of its images."""

    options: DetectOptions | None
    deadline_s: float
    keep_image: bool
    addresses: AddressRules | None


async def _answers(
    host: ModelHost, images: Sequence[GivenImage], wanted: _Wanted
) -> list[tuple[str, Answer | YoloshipError]]:
    """The answer or the error of each image."""

    async def one(image: GivenImage) -> Answer | YoloshipError:
        try:
            data = image.data if image.url is None else await _fetched(image.url, wanted)
            return await host.infer(data, wanted.options, wanted.deadline_s, keep_image=wanted.keep_image)
        except YoloshipError as error:
            forget_frames(error)
            return error

    if len(images) == 1:
        return [(images[0].name, await one(images[0]))]
    found = await asyncio.gather(*map(one, images))
    return [(image.name, outcome) for image, outcome in zip(images, found, strict=True)]


async def _fetched(url: str, wanted: _Wanted) -> bytes:
    """The image at an address, by the rules for addresses, in a thread that ends at the deadline."""
    from yoloship._util.fetching import fetch

    left_s = wanted.deadline_s - asyncio.get_running_loop().time()
    if left_s <= 0:
        raise LateError("the deadline passed", subject="url")
    assert wanted.addresses is not None, "addresses are allowed"
    rules = replace(wanted.addresses, timeout_s=min(wanted.addresses.timeout_s, left_s))
    return (await asyncio.to_thread(fetch, url, rules)).data


async def _response(
    host: ModelHost, outcomes: Sequence[tuple[str, Answer | YoloshipError]], form: Any, *, is_list: bool
) -> Response:
    answers = [outcome for _, outcome in outcomes if isinstance(outcome, Answer)]
    if not answers:
        errors = [outcome for _, outcome in outcomes if isinstance(outcome, YoloshipError)]
        late = next((error for error in errors if isinstance(error, LateError)), None)
        if late is not None or not is_list or form != "json":
            raise late or errors[0]
    slowest = max((one.times for one in answers), key=lambda one: one.total_s, default=None)
    headers = {} if slowest is None else {"Server-Timing": server_timing(slowest)}
    if form == "json":
        write = partial(json_answer, outcomes, as_list=is_list)
        data = write() if is_quick(outcomes) else await host.call(write)
        return Response(data, headers=headers, media_type="application/json")
    data = await host.call(partial(drawn_answer, answers[0], form))
    return Response(data, headers=headers, media_type=f"image/{form}")


def _described_endpoints() -> list[Endpoint]:
    return [one for one in ENDPOINTS if not one.is_part]


def _described(host: ModelHost) -> dict[str, Any]:
    """What clients may know about a model."""
    if not host.is_loaded:
        return {"name": host.name, "ready": False}
    loaded = host.loaded
    detector = loaded.detector
    options, nms, (a, b) = detector.options, detector.info.nms, loaded.cost.line
    return {
        "name": host.name,
        "ready": host.is_ready,
        "task": detector.info.task,
        "class_names": list(detector.class_names),
        "input_hw": list(detector.input_hw),
        "device": detector.device,
        "runtime": detector.session.name,
        "thresholds": {
            "conf": options.score_threshold,
            "iou": options.iou_threshold,
            "max_det": options.max_detections,
        },
        "lowest_conf": 0.0 if nms is None else nms.score_threshold,
        "iou_is_fixed": nms is not None or detector.info.head == "one2one",
        "batches": list(detector.batches),
        "run_ms": {"per_image": round(a * 1e3, 3), "per_run": round(b * 1e3, 3)},
        "under_load": {
            "batch": host.batch,
            "runs_at_once": detector.parallel_runs,
            "images_per_second": round(host.rate, 1),
            "room": host.admission.room,
        },
        "loaded_at": round(loaded.since, 3),
        "problem": host.problem or None,
    }


ENDPOINTS: Final = (
    Endpoint("GET", "/healthz", healthz, "Whether the process is alive.", is_open=True),
    Endpoint("GET", "/readyz", readyz, "Whether all models are loaded and warm; 503 until then.", is_open=True),
    Endpoint("GET", "/metrics", metrics, "Metrics in Prometheus' text format."),
    Endpoint("GET", "/openapi.json", openapi, "This API as an OpenAPI document.", is_open=True),
    Endpoint("GET", "/docs", docs, "This API as a page.", is_open=True),
    *(Endpoint("GET", path, asset, "A page to try the models.", is_open=True, is_part=path != "/") for path in ASSETS),
    Endpoint("GET", "/v1/models", models, "All models: task, classes, input size, thresholds, cost of a run."),
    Endpoint("GET", "/v1/models/{name}", model, "One model."),
    Endpoint("POST", "/v1/models/{name}/predict", predict, "Run the model on one image or several."),
    *(Endpoint(*one) for one in KSERVE),
)
