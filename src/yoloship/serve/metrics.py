"""What the server counts and times, for Prometheus: `Metrics`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

if TYPE_CHECKING:
    from yoloship.serve.engine import Times

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
FOLDER_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
"""The variable that names the folder where several processes keep their metrics, so that each can report all."""
_SECONDS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_IMAGES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """The metrics of one server, in a registry of its own, or of all its processes, in files of a folder.

    Attributes:
        requests: Answers, by address, status and model.
        rejected: Images that were refused or dropped before they ran, by model and reason.
        reloads: Loads of a model, by outcome.
        ready: Whether a model answers.
        in_flight: Images that are waiting or running.
    """

    def __init__(self) -> None:
        self._folder = os.environ.get(FOLDER_VARIABLE)
        self._registry = registry = CollectorRegistry()
        if self._folder is None:
            ProcessCollector(registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"yoloship_{name}", text, ["model"], buckets=buckets, registry=registry)

        self.requests = Counter(
            "yoloship_requests", "Answers to requests.", ["route", "model", "status"], registry=registry
        )
        self.rejected = Counter(
            "yoloship_rejected", "Images refused or dropped before they ran.", ["model", "reason"], registry=registry
        )
        self.reloads = Counter("yoloship_loads", "Loads of a model.", ["model", "outcome"], registry=registry)
        self.ready = Gauge(
            "yoloship_model_ready", "1 if the model answers.", ["model"], registry=registry, multiprocess_mode="livemin"
        )
        self.in_flight = Gauge(
            "yoloship_in_flight",
            "Images waiting or running.",
            ["model"],
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._batch = histogram("batch_images", "Number of images in the run that an image was part of.", _IMAGES)
        self._decode = histogram("decode_seconds", "Seconds to decode an image.", _SECONDS)
        self._queue = histogram("queue_seconds", "Seconds that an image waited.", _SECONDS)
        self._network = histogram("network_seconds", "Seconds of the run that an image was part of.", _SECONDS)
        self._total = histogram("image_seconds", "Total seconds for an image.", _SECONDS)

    def image_done(self, model: str, times: Times) -> None:
        """Count an image that has its answer."""
        self._batch.labels(model).observe(times.batch)
        self._decode.labels(model).observe(times.decode_s)
        self._queue.labels(model).observe(times.queue_s)
        self._network.labels(model).observe(times.network_s)
        self._total.labels(model).observe(times.total_s)

    def text(self) -> bytes:
        """All metrics, in Prometheus' text format."""
        registry = self._registry
        if self._folder is not None:
            registry = CollectorRegistry()
            MultiProcessCollector(registry, self._folder)  # type: ignore[no-untyped-call]  # it has no types
        return generate_latest(registry)
