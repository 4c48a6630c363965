"""What a task is to everybody else: `Task`, and `Form`, one of the ways in which a graph gives its answers.

A model's record names its task and its output form. Whoever runs a model looks both up and asks them; nobody else
knows the forms by name, or what their numbers mean.

    outputs of a run ─▶ Form.decode ─▶ answers ─▶ Task.suppress ─▶ Task.to_result ─▶ the result that a user gets
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

from yoloship.errors import SessionError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    import numpy.typing as npt

    from yoloship.cuda.extras import Keypoints
    from yoloship.cuda.masks import Prototypes
    from yoloship.cuda.postprocess import DecodeInput
    from yoloship.model import ModelInfo, TensorSpec
    from yoloship.runtime.session import DeviceTensor

    Upload = Callable[[npt.NDArray[Any]], int]
    """Copies a table to the device, where it stays as long as the outputs of a run, and gives its address."""
    Cells = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]


AnswerT = TypeVar("AnswerT")
ResultT = TypeVar("ResultT")


class Limits(Protocol):
    """Which answers a caller wants to keep; `yoloship.detect.options.DetectOptions` is one."""

    @property
    def score_threshold(self) -> float:
        """In [0, 1]; an answer at or below it is dropped."""

    @property
    def iou_threshold(self) -> float:
        """In [0, 1]; a box goes if its IoU with a better one is above it."""

    @property
    def max_detections(self) -> int:
        """Keep at most this many for each image."""

    @property
    def class_agnostic(self) -> bool:
        """Whether boxes of different classes suppress each other."""

    @property
    def retina_masks(self) -> bool:
        """Whether masks are made at the resolution of the source image, not of the network's input."""

    @property
    def mask_rule(self) -> str | None:
        """How masks are made, a name in `yoloship.results.mask_rules.MASK_RULES`; None leaves it to the model."""


class Form(ABC, Generic[AnswerT]):
    """One output form: which outputs a graph has, and how they are read. It holds no state.

    Attributes:
        name: As a model's record and the command line have it.
        description: A few words for the help of ``--output``.
        suppresses: Whether non-maximum suppression is inside the graph. A record of such a form has `ModelInfo.nms`,
            and no other record has.
    """

    name: ClassVar[str]
    description: ClassVar[str]
    suppresses: ClassVar[bool] = False

    @abstractmethod
    def check(self, outputs: Sequence[TensorSpec], info: ModelInfo, subject: str) -> None:
        """Refuse a record that contradicts the graph beside it.

        Args:
            outputs: All outputs that the graph declares.
            info: The record.
            subject: The model's name, for messages.

        Raises:
            SessionError: the outputs are not what the record promises.
        """

    def places(self, outputs: Sequence[TensorSpec], info: ModelInfo) -> tuple[int, ...]:  # noqa: ARG002 - for others
        """Which of a graph's outputs `decode` reads, in its order. Foreign graphs have others beside them.

        Args:
            outputs: All outputs that the graph declares.
            info: The model.
        """
        return tuple(range(len(outputs)))

    def select(
        self, outputs: Sequence[npt.NDArray[np.generic]], specs: Sequence[TensorSpec], info: ModelInfo
    ) -> list[npt.NDArray[np.generic]]:
        """Those outputs of a run that `decode` reads.

        Args:
            outputs: All that the session gave.
            specs: All outputs that the graph declares.
            info: The model.

        Raises:
            SessionError: the session gave more or fewer than the graph declares.
        """
        if len(outputs) != len(specs):
            raise SessionError("wrong number of outputs", expected=str(len(specs)), got=str(len(outputs)))
        return [outputs[place] for place in self.places(specs, info)]

    @abstractmethod
    def decode(
        self,
        outputs: Sequence[npt.NDArray[np.generic]],
        info: ModelInfo,
        input_hw: tuple[int, int],
        score_threshold: float,
    ) -> list[AnswerT]:
        """The answers of every image of a run.

        Args:
            outputs: What `select` chose; read only.
            info: The model.
            input_hw: (height, width) of the canvas in model pixels.
            score_threshold: In [0, 1]; answers at or below it are dropped.

        Returns:
            One value for each image of the batch, in the unit of the canvas.

        Raises:
            SessionError: the outputs are not what the record promises.
        """

    def on_gpu(self, info: ModelInfo) -> bool:  # noqa: ARG002 - for those that ask
        """Whether there are kernels that decode a model's outputs, so that `device_output` finds what they read."""
        return False

    def device_output(
        self,
        tensors: Sequence[DeviceTensor],
        info: ModelInfo,
        input_hw: tuple[int, int],
        upload: Upload,
    ) -> DecodeInput:
        """What the decoding kernels read of outputs that lie on a GPU; asked only if `on_gpu` says that there are any.

        Args:
            tensors: The outputs of a run, those of `places` alone.
            info: The model.
            input_hw: (height, width) of the canvas in model pixels.
            upload: Copies a table to the device, where it stays as long as the outputs, and gives its address.

        Raises:
            SessionError: the outputs are not what the record promises.
        """
        raise NotImplementedError

    def device_extras(
        self,
        tensors: Sequence[DeviceTensor],  # noqa: ARG002 - for those that have any
        info: ModelInfo,  # noqa: ARG002
        input_hw: tuple[int, int],  # noqa: ARG002
        upload: Upload,  # noqa: ARG002
    ) -> Keypoints | Prototypes | None:
        """What the kernels make of the detections that are kept: keypoints, masks, or nothing more.

        Asked only if `on_gpu` is true; the arguments and errors are those of `device_output`.
        """
        return None

    def cells(
        self,
        outputs: Sequence[npt.NDArray[np.generic]],  # noqa: ARG002 - for those that have cells
        info: ModelInfo,  # noqa: ARG002
    ) -> Cells | None:
        """What every cell of the first image says, before any threshold, so that two models can be compared.

        Args:
            outputs: What `select` chose; read only.
            info: The model.

        Returns:
            Boxes (N, 4) float32 in model pixels, xyxy, and scores (N,) float32, in the order of the standard form; the
            caller owns them. None if the form does not have them all.
        """
        return None


class Task(ABC, Generic[AnswerT, ResultT]):
    """What a model answers, from its outputs to a result in source pixels. It holds no state.

    Attributes:
        name: As a model's record has it.
        title: What people call such a model: "detection model".
        noun: One answer, and several: "detection", "detections".
        measure: The usual number for how good such a model is.
        forms: The output forms that its models have; the first is the field's standard.
        options: Which of the options of `DetectOptions` have an effect; others are refused by name.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    noun: ClassVar[tuple[str, str]]
    measure: ClassVar[str]
    forms: ClassVar[tuple[Form[Any], ...]]
    options: ClassVar[frozenset[str]] = frozenset(
        {"score_threshold", "iou_threshold", "max_detections", "classes", "class_agnostic"}
    )

    @property
    def standard(self) -> Form[AnswerT]:
        """The form of the field's own exports: every cell decoded, nothing selected."""
        return self.forms[0]

    def form(self, name: str, subject: str) -> Form[AnswerT]:
        """The output form of that name.

        Raises:
            SessionError: its models have no such form.
        """
        for form in self.forms:
            if form.name == name:
                return form
        foreign = self.foreign_forms()
        if name in foreign:
            return foreign[name]
        raise SessionError(
            f"a {self.title} has no such output form",
            subject=subject,
            expected=", ".join(form.name for form in self.forms),
            got=name[:60],
        )

    def foreign_forms(self) -> Mapping[str, Form[AnswerT]]:
        """Forms that only exports of other projects have, by name; asked for when they are needed."""
        return {}

    @abstractmethod
    def check(self, outputs: Sequence[TensorSpec], info: ModelInfo, subject: str) -> None:
        """Refuse a record that lacks something that the task needs, or that contradicts the graph beside it.

        Args:
            outputs: All outputs that the graph declares.
            info: The record.
            subject: The model's name, for messages.

        Raises:
            InputError: a field of the record cannot have its value.
            SessionError: the outputs are not what the record promises.
        """

    @abstractmethod
    def suppress(self, answer: AnswerT, limits: Limits, class_ids: npt.NDArray[np.int32] | None) -> AnswerT:
        """What a caller wants of one image's answer.

        Args:
            answer: As `Form.decode` gave it.
            limits: What to keep.
            class_ids: (n,) int32, the classes to keep; None keeps all.
        """

    @abstractmethod
    def to_result(self, answer: AnswerT, letterbox: Any, class_names: tuple[str, ...]) -> ResultT:
        """An answer that was suppressed, brought back to source pixels.

        Args:
            answer: In the unit of the canvas.
            letterbox: Where the image lies on the canvas: a `Letterbox`, or for classification a `Crop`.
            class_names: By class id.
        """

    def finish(
        self,
        answer: AnswerT,
        letterbox: Any,
        limits: Limits,
        class_ids: npt.NDArray[np.int32] | None,
        class_names: tuple[str, ...],
    ) -> ResultT:
        """`suppress`, then `to_result`; the arguments are theirs."""
        return self.to_result(self.suppress(answer, limits, class_ids), letterbox, class_names)
