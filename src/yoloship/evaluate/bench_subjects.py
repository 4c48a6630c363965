"""What a benchmark measures, with one face for detectors on the CPU and on a GPU: `Subject`."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from yoloship.pipeline.cuda_detector import CudaDetector
from yoloship.pipeline.decode import decode
from yoloship.pipeline.detector import finish
from yoloship.pipeline.preprocess import letterbox_batch, to_input
from yoloship.results import class_ids_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy.typing as npt

    from yoloship.pipeline.detector import Detector

    Image = npt.NDArray[np.uint8]


class Subject(Protocol):
    """A loaded model under test. Closed by whoever opened it."""

    @property
    def backend(self) -> str:
        """What runs the network, with its version."""

    def detect(self, images: Sequence[Image]) -> None:
        """From pictures in memory to detections; many threads may call it."""

    def stages_ms(self, images: Sequence[Image]) -> dict[str, float]:
        """Milliseconds of each stage of one such run, in order."""

    def network(self, pictures: int) -> Any:
        """A context manager that gives a function: the network alone for so many pictures, waited for."""

    def device_bytes(self) -> int | None:
        """Bytes of the device's memory in use, other processes' included; None on the CPU."""

    def close(self) -> None:
        """Close the detector."""


class CpuSubject:
    """A `Detector`: its steps are those of its own call, one by one.

    Args:
        detector: Closed with the subject.
    """

    def __init__(self, detector: Detector) -> None:
        self._detector = detector

    @property
    def backend(self) -> str:
        """See `Subject`; so for the others."""
        return self._detector.session.name

    def detect(self, images: Sequence[Image]) -> None:
        """See `Subject`."""
        self._detector.detect_batch(images)

    def stages_ms(self, images: Sequence[Image]) -> dict[str, float]:
        """See `Subject`."""
        one, info, options = self._detector, self._detector.info, self._detector.options
        spent = {"letterbox": 0.0, "network": 0.0, "decode": 0.0, "suppress": 0.0}
        wanted = None if options.classes is None else np.array(class_ids_of(options.classes, one.names), np.int32)
        size = info.batch or len(images)
        for start in range(0, len(images), size):
            some = images[start : start + size]
            marks = [time.perf_counter()]
            boxes = [one.letterbox((image.shape[0], image.shape[1])) for image in some]
            canvases = np.empty((info.batch or len(some), *boxes[0].input_hw, info.channels), np.uint8)
            feed = to_input(letterbox_batch(some, boxes, canvases), one.session.inputs[0].dtype)
            marks.append(time.perf_counter())
            outputs = one.session.run({one.session.inputs[0].name: feed})
            marks.append(time.perf_counter())
            found = decode(one.decodable(outputs), info, boxes[0].input_hw, options.score_threshold)
            marks.append(time.perf_counter())
            for candidates, box in zip(found, boxes, strict=False):
                finish(candidates, box, options, wanted, one.names)
            marks.append(time.perf_counter())
            for stage, began, ended in zip(spent, marks, marks[1:], strict=False):
                spent[stage] += (ended - began) * 1e3
        return spent

    @contextmanager
    def network(self, pictures: int) -> Iterator[Callable[[], None]]:
        """See `Subject`."""
        session, info = self._detector.session, self._detector.info
        size = info.batch or pictures
        canvases = np.full((size, *self._detector.input_hw, info.channels), 114, np.uint8)
        feeds = {session.inputs[0].name: to_input(canvases, session.inputs[0].dtype)}
        runs = -(-pictures // size)

        def run() -> None:
            for _ in range(runs):
                session.run(feeds)

        yield run

    def device_bytes(self) -> int | None:
        """See `Subject`."""
        return None

    def close(self) -> None:
        """See `Subject`."""
        self._detector.close()


class GpuSubject:
    """A `CudaDetector`.

    Args:
        detector: Closed with the subject.
    """

    def __init__(self, detector: CudaDetector) -> None:
        self._detector = detector

    @property
    def backend(self) -> str:
        """See `Subject`; so for the others."""
        return self._detector.session.name

    def detect(self, images: Sequence[Image]) -> None:
        """See `Subject`."""
        self._detector.detect_batch(images)

    def stages_ms(self, images: Sequence[Image]) -> dict[str, float]:
        """See `Subject`."""
        spent = dict.fromkeys(("stage", "upload", "letterbox", "network", "postprocess", "read"), 0.0)
        size = self._detector.max_batch
        for start in range(0, len(images), size):
            _, times = self._detector.detect_timed(images[start : start + size])
            for name in spent:
                spent[name] += float(getattr(times, name))
        return spent

    @contextmanager
    def network(self, pictures: int) -> Iterator[Callable[[], None]]:
        """See `Subject`."""
        size = min(pictures, self._detector.max_batch)
        with self._detector.network(size) as once:

            def run() -> None:
                for _ in range(-(-pictures // size)):
                    once()

            yield run

    def device_bytes(self) -> int | None:
        """See `Subject`."""
        free, total = self._detector.session.device.memory()
        return total - free

    def close(self) -> None:
        """See `Subject`."""
        self._detector.close()


def subject_of(detector: Detector | CudaDetector) -> Subject:
    """The subject that fits a detector."""
    return GpuSubject(detector) if isinstance(detector, CudaDetector) else CpuSubject(detector)
