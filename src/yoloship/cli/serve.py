"""``yoloship serve``: models over HTTP."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, Final

import click

from yoloship.cli import options
from yoloship.cli.command import COUNT, FILE, Number, WholeNumber, argument, byte_size, command, flag, option
from yoloship.cli.output import print_err
from yoloship.errors import DependencyError

LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")
_PACKAGES: Final = ("httptools", "starlette", "uvicorn", "prometheus_client", "python_multipart")


@command(
    examples=(
        "yoloship serve best.pt",
        "yoloship serve day=best.pt night=night.onnx --port 9000",
        "yoloship serve best.engine --host 0.0.0.0 --api-keys keys.txt --tls-cert cert.pem --tls-key key.pem",
        "yoloship serve best.engine --processes 4",
    )
)
@argument(
    "models",
    metavar="[NAME=]MODEL...",
    many=True,
    help="Checkpoints, ONNX files, engines, release names. NAME is the model's name in URLs. Default: the file name "
    "without its suffix.",
)
@option(
    "--host",
    metavar="ADDRESS",
    default=LOOPBACK[0],
    help="Address to listen on; 0.0.0.0 is all addresses of this machine.",
)
@option("--port", type=WholeNumber(0, 65_535), metavar="N", default=8000, help="Port to listen on; 0 takes a free one.")
@options.device
@options.runtime
@options.runtime_precision
@options.imgsz
@options.conf
@options.iou
@options.max_det
@options.names
@options.transform
@option(
    "--api-keys",
    type=FILE,
    metavar="FILE",
    help="Answer only requests with an API key from this file (one key per line).",
)
@option("--tls-cert", type=FILE, metavar="FILE", help="Serve HTTPS with this certificate (PEM).")
@option(
    "--tls-key",
    type=FILE,
    metavar="FILE",
    help="The private key of the certificate. Default: the key in the certificate file.",
)
@option(
    "--allow-host",
    multiple=True,
    metavar="NAME",
    help="On a loopback address: also answer requests for this host name; may be repeated.",
)
@flag("--allow-urls", help="Allow requests to name images by https URL; addresses in private networks are refused.")
@option("--max-body", type=byte_size, metavar="SIZE", default="32MB", help="Maximum size of a request body.")
@option("--max-pixels", type=COUNT, metavar="N", default=50_000_000, help="Maximum number of pixels in an image.")
@option("--max-images", type=COUNT, metavar="N", default=32, help="Maximum number of images in a request.")
@option(
    "--queue",
    type=COUNT,
    metavar="N",
    help="How many images of a model may wait or run. Default: depends on the model's speed.",
)
@option(
    "--deadline",
    type=Number(min=0.001, max=3600),
    metavar="SECONDS",
    default=10.0,
    help="Longest time until a response. A request can ask for less with the header X-Deadline-Ms.",
)
@option(
    "--drain",
    type=Number(min=1, max=3600),
    metavar="SECONDS",
    default=30.0,
    help="Time to finish current requests when the server is asked to stop.",
)
@option(
    "--processes",
    type=WholeNumber(1, 64),
    metavar="N",
    default=1,
    help="Server processes on the port, each with its own copy of the models. For a GPU that one process cannot keep "
    "busy.",
)
@flag("--no-reload", help="Do not reload a model when its file is replaced.")
@option("--log", type=click.Choice(["json", "text", "none"]), default="text", help="Format of the log lines on stderr.")
def serve(models: tuple[str, ...], **given: Any) -> None:
    """Serve models over HTTP: images in, results out.

    POST an image to /v1/models/NAME/predict. / is a page to try the models, /docs lists all endpoints, /readyz says
    whether the models are ready, and /metrics is for Prometheus. docs/serve.md has the details.
    """
    missing = [package for package in _PACKAGES if find_spec(package) is None]
    if missing:
        raise DependencyError(f"the server needs {', '.join(missing)}", hint="pip install 'yoloship[serve]'")
    if given["tls_key"] is not None and given["tls_cert"] is None:
        raise click.UsageError("--tls-key is for --tls-cert: give both")
    from yoloship.serve.listening import Listening
    from yoloship.serve.listening import serve as run
    from yoloship.serve.logs import begin_log

    listening = Listening(given["host"], given["port"], given["tls_cert"], given["tls_key"], given["drain"])
    begin_log(given["log"])
    settings, count = _settings(models, given), given["processes"]

    def started(address: str) -> None:
        print_err(f"serve: {address}")

    if count == 1:
        run(settings, listening, started)
        return
    from yoloship.serve.processes import serve_together

    serve_together(settings, listening, count, given["log"], started)


def _settings(models: tuple[str, ...], given: dict[str, Any]) -> Any:
    from yoloship._util.addresses import AddressRules
    from yoloship.images import ImageLimits
    from yoloship.serve.keys import ApiKeys
    from yoloship.serve.settings import RequestLimits, ServedModel, ServeSettings

    arguments: dict[str, Any] = {
        "tuned_for": "throughput",
        "device": given["device"],
        "runtime": given["runtime"],
        "runtime_precision": given["runtime_precision"],
        "imgsz": given["imgsz"],
        "score_threshold": given["conf"],
        "iou_threshold": given["iou"],
        "max_detections": given["max_det"],
        "class_names": given["names"],
        "transform": given["transform"],
    }
    limits = RequestLimits(
        max_body_bytes=given["max_body"],
        max_images=given["max_images"],
        image=ImageLimits(max_pixels=given["max_pixels"], max_file_bytes=given["max_body"]),
        deadline_s=given["deadline"],
        queue=given["queue"],
    )
    is_local = given["host"] in LOOPBACK
    keys = None if given["api_keys"] is None else ApiKeys.read(given["api_keys"])
    if not is_local and keys is None:
        print_err("warning: anyone who can reach this port can use the models; use --api-keys FILE to require a key")
    return ServeSettings(
        tuple(ServedModel.parse(text, arguments) for text in models),
        limits,
        keys,
        frozenset({*LOOPBACK, *map(str.lower, given["allow_host"])}) if is_local else None,
        AddressRules(max_bytes=given["max_body"]) if given["allow_urls"] else None,
        0.0 if given["no_reload"] else 1.0,
    )
