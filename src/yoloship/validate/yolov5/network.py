"""The network of a validation, from a canvas to the rows of its boxes: `Network`."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from yoloship.detect.detector import Detector
from yoloship.detect.feeds import host_session
from yoloship.detect.preprocess import model_feeds
from yoloship.errors import InputError
from yoloship.kinds import kind_of
from yoloship.models.loading import load
from yoloship.models.releases import resolve
from yoloship.tasks.task import form_of
from yoloship.validate.objects import OVERLAPS
from yoloship.validate.opened import sha256_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

    from yoloship.runtime import Session


OTHER_RULES = "take COCO's rules (--as coco, or rules='coco' in Python)"


class Network:
    """A model that gives every class score of every box.

    Args:
        detector: Has the session; the caller closes it.
        is_checkpoint: Whether it was made from a checkpoint.
        sha256: Of the model's file, lower-case hex; empty if it is not known.
        name: The model's name.

    Attributes:
        info: The model's record.
        is_checkpoint: Whether it was made from a checkpoint.
        sha256: Of the model's file; empty if it is not known.
        name: The model's name.
        runs: How many runs at once use the processor best.
        runtime: What runs it, as text.
        device: Where it runs: ``cpu`` or ``cuda:N``.

    Raises:
        InputError: it is not a detection model with an objectness, as YOLOv5's are, or its graph keeps only the best
            class of each box.
    """

    def __init__(self, detector: Detector[Any], *, is_checkpoint: bool, sha256: str, name: str) -> None:
        self.info = info = detector.info
        self.is_checkpoint = is_checkpoint
        self.sha256 = sha256
        self.name = name
        refuse_other_tasks(info.task, name)
        if info.channels != 3:
            raise InputError(
                "does not take colour images, as YOLOv5's rules do", subject=name, expected="3 channels",
                got=str(info.channels), hint=OTHER_RULES,
            )  # fmt: skip
        self._form = form_of(info, name)
        if not self._form.has_object_rows(info):
            raise InputError(
                "does not give an objectness and every class score of each box, which YOLOv5's rules count",
                subject=name, expected="a YOLOv5 checkpoint, or a file of one by 'yoloship export --output raw'",
                got=f"{info.family}, output form {info.output_form}", hint=OTHER_RULES,
            )  # fmt: skip
        self._session: Session = host_session(detector)
        self._places = self._form.places(self._session.outputs, info)
        self.runs = self._session.concurrent_runs
        self.runtime = str(self._session)
        self.device = detector.device

    def check_size(self, input_hw: tuple[int, int]) -> None:
        """Refuse a canvas that the graph does not take.

        Raises:
            InputError: the graph has another fixed size.
        """
        have = self.info.input_hw
        if any(side is not None and side != wanted for side, wanted in zip(have, input_hw, strict=True)):
            height, width = (side or "any" for side in have)
            raise InputError(
                "the graph has a fixed size", subject=self.name, expected=f"{height}×{width}",
                got=f"{input_hw[0]}×{input_hw[1]}", hint="choose that size, squares, or the checkpoint",
            )  # fmt: skip

    def rows(self, canvas: npt.NDArray[np.uint8], score_threshold: float) -> npt.NDArray[np.float32]:
        """Run the network on one image.

        Args:
            canvas: (H, W, 3) uint8 BGR, C-contiguous; read only.
            score_threshold: In [0, 1].

        Returns:
            (n, 5 + C) float32: cx, cy, w, h in model pixels, objectness and class scores; read only. Rows with an
            objectness at or below the threshold may be missing.

        Raises:
            SessionError: the runtime failed, or the output is not what the record promises.
        """
        batch = self.info.batch or 1
        canvases = canvas[None] if batch == 1 else np.repeat(canvas[None], batch, axis=0)
        outputs = self._session.run_as_computed(model_feeds(self._session.inputs, self.info, canvases))
        read = [outputs[place] for place in self._places]
        return self._form.object_rows(read, self.info, canvas.shape[:2], score_threshold)


def refuse_other_tasks(task: str, subject: str) -> None:
    """Refuse a model or a dataset that is not for boxes alone.

    Raises:
        InputError: it is for another task.
    """
    if OVERLAPS.get(task) != "boxes":
        raise InputError(
            f"is for the task {task!r}; YOLOv5's rules are here for detection only", subject=subject, hint=OTHER_RULES
        )


@contextmanager
def open_network(model: str | Path | Detector[Any], runtime: str | None = None) -> Iterator[Network]:
    """Open a model for a validation, and close it afterwards.

    Args:
        model: A checkpoint, an ONNX file, an engine, the name of a release; or a detector, which stays open.
        runtime: The library that runs it; None takes the default.

    Raises:
        YoloshipError: as `yoloship.load`, or as `Network`.
    """
    if isinstance(model, Detector):
        yield Network(model, is_checkpoint=False, sha256="", name=model.model_name)
        return
    path = resolve(model)
    kind = kind_of(path)
    if kind == "engine":
        from yoloship.evaluate.artefact import open_artefact

        detector = open_artefact(path, runtime=runtime)
    elif kind == "checkpoint":  # in rectangles its graph has an open size
        detector = load(path, shape_mode="rect", tuned_for="throughput", runtime=runtime)
    else:
        detector = load(path, tuned_for="throughput", runtime=runtime)
    with detector:
        sha256 = detector.info.checkpoint_sha256 if kind == "checkpoint" else None
        yield Network(detector, is_checkpoint=kind == "checkpoint", sha256=sha256 or sha256_of(path), name=str(model))
