"""A task for yoloship: tags of a whole image, such as "outdoors" and "night", each with a score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from yoloship import SessionError
from yoloship.results import Result
from yoloship.results.classification import ClassScore
from yoloship.results.drawing import as_canvas, draw_tag
from yoloship.tasks.task import Form, Task

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from yoloship.letterbox import Letterbox
    from yoloship.model import ModelInfo, TensorSpec
    from yoloship.tasks.task import Limits

    Scores = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Tags(Result):
    """What a user gets for one image.

    Attributes:
        scores: By tag, in [0, 1], best first.
        image_hw: (height, width) of the image in pixels.
        class_names: All tags that the model knows.
        complete: Always true.
    """

    scores: dict[str, float]
    image_hw: tuple[int, int]
    class_names: tuple[str, ...]
    complete: bool = True

    @property
    def task(self) -> str:
        """The name of the task."""
        return "tag"

    def __len__(self) -> int:
        return len(self.scores)

    def answers(self) -> list[ClassScore]:
        """The rows of a CSV file."""
        return [ClassScore(self.class_names.index(tag), tag, score) for tag, score in self.scores.items()]

    def table(self, limit: int | None = None) -> list[tuple[str, ...]]:
        """What the command line shows."""
        rows = [(tag, f"{score:.3f}") for tag, score in self.scores.items()]
        return [("tag", "score"), *rows[:limit]]

    def counts(self) -> dict[str, int]:
        """Each tag once."""
        return dict.fromkeys(self.scores, 1)

    def to_dict(self) -> dict[str, Any]:
        """What a JSON file has beside the name of the image."""
        height, width = self.image_hw
        return {"width": width, "height": height, "tags": self.scores}

    def draw(
        self,
        image: npt.NDArray[np.uint8],
        *,
        hide_labels: bool = False,
        hide_scores: bool = False,
        line_width_px: int | None = None,
    ) -> npt.NDArray[np.uint8]:
        """Write the best tag on a copy of the image."""
        canvas = as_canvas(image, "Tags.draw", self.image_hw, line_width_px)
        best = "" if hide_labels else next(iter(self.scores), "")
        return draw_tag(canvas, self.class_names.index(best), best) if best else canvas


class ScoresForm(Form["Scores"]):
    """The only output form: one output (B, C) with a score in [0, 1] for each class."""

    name = "scores"
    description = "(B,C) scores"

    def check(self, outputs: Sequence[TensorSpec], info: ModelInfo, subject: str) -> None:
        """Refuse a graph that has other outputs than its record says."""
        shapes = [output.shape[1:] for output in outputs]
        if shapes != [(len(info.class_names),)]:
            raise SessionError(
                "the model's metadata contradicts its outputs",
                subject=subject,
                expected=f"one output (B, {len(info.class_names)})",
                got=", ".join(map(str, outputs)),
            )

    def decode(
        self,
        outputs: Sequence[npt.NDArray[np.generic]],
        info: ModelInfo,
        input_hw: tuple[int, int],
        score_threshold: float,
    ) -> list[Scores]:
        """The scores of every image."""
        return list(np.asarray(outputs[0], np.float32))


class TagImages(Task["Scores", Tags]):
    """Models that tag images."""

    name = "tag"
    title = "tagging model"
    noun = ("tag", "tags")
    measure = "mAP"
    forms = (ScoresForm(),)
    options = frozenset({"score_threshold", "classes"})
    has_boxes = False

    def check(self, outputs: Sequence[TensorSpec], info: ModelInfo, subject: str) -> None:
        """Ask the output form."""
        self.form(info.output_form, subject).check(outputs, info, subject)

    def suppress(self, answer: Scores, limits: Limits, class_ids: npt.NDArray[np.int32] | None) -> Scores:
        """Set the score of every tag that is not wanted to 0."""
        kept = answer > limits.score_threshold
        if class_ids is not None:
            kept &= np.isin(np.arange(len(answer)), class_ids)
        return np.where(kept, answer, np.float32(0))

    def to_result(self, answer: Scores, letterbox: Letterbox, class_names: tuple[str, ...]) -> Tags:
        """Name the tags that are left."""
        best_first = np.argsort(-answer, kind="stable")
        scores = {class_names[tag]: float(answer[tag]) for tag in best_first if answer[tag] > 0}
        return Tags(scores, letterbox.image_hw, class_names)
