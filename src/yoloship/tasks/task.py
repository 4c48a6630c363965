"""What a task is to everybody else: `Task`, `Form`, one of the ways in which a graph gives its answers, and `TASKS`.

A model's record names its task and its output form. Whoever runs a model looks both up and asks them; nobody else
knows the forms by name, or what their numbers mean. `info_of` makes the record of an open model.

    outputs of a run ─▶ Form.decode ─▶ answers ─▶ Task.suppress ─▶ Task.to_result ─▶ the result that a user gets
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import suppress
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, NoReturn, Protocol, TypeVar

from yoloship._util.tables import Table
from yoloship.errors import DependencyError, InputError, SessionError
from yoloship.model import METADATA_KEY, ModelInfo, images_first

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    import numpy.typing as npt

    from yoloship.cuda.extras import Keypoints
    from yoloship.cuda.masks import Prototypes
    from yoloship.cuda.postprocess import DecodeInput
    from yoloship.model import TensorSpec
    from yoloship.results import Result
    from yoloship.runtime import Session
    from yoloship.runtime.session import DeviceTensor
    from yoloship.transforms import Transform

    Upload = Callable[[npt.NDArray[Any]], int]
    """Copies a table to the device, where it stays as long as the outputs of a run, and gives its address."""
    Cells = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]
    """Of every cell the box, (N, 4) xyxy in model pixels, and the score, (N,)."""


AnswerT = TypeVar("AnswerT")
ResultT = TypeVar("ResultT", bound="Result")


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
        takes_size: Whether the graph has a second input, for the size of the boxes.
    """

    name: ClassVar[str]
    description: ClassVar[str]
    suppresses: ClassVar[bool] = False
    takes_size: ClassVar[bool] = False

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
            outputs: Those of `places`, in that order; read only.
            info: The model.
            input_hw: (height, width) of the canvas in model pixels.
            score_threshold: In [0, 1]; answers at or below it are dropped.

        Returns:
            One value for each image of the batch, in the unit of the canvas.

        Raises:
            SessionError: the outputs are not what the record promises.
        """

    def has_object_rows(self, info: ModelInfo) -> bool:  # noqa: ARG002 - for those that ask
        """Whether a model's outputs say the objectness and every class score of each box; see `object_rows`."""
        return False

    def object_rows(
        self,
        outputs: Sequence[npt.NDArray[np.generic]],
        info: ModelInfo,
        input_hw: tuple[int, int],
        score_threshold: float,
    ) -> npt.NDArray[np.float32]:
        """The decoded rows of the first image of a run; asked only if `has_object_rows` is true.

        The arguments and errors are those of `decode`.

        Returns:
            (n, 5 + C + E) float32: cx, cy, w, h in the unit of the canvas, the objectness, the class scores, and
            further columns. Rows whose objectness is at or below the threshold may be missing; read only.
        """
        raise NotImplementedError

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
            outputs: Those of `places`, in that order; read only.
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
        forms: The output forms that its models have; the first is the usual one.
        options: Which of the options of `DetectOptions` have an effect; others are refused by name.
        has_boxes: Whether every answer has a box, so that formats of boxes can hold it.
        stages: What the CPU does before the network, right after it, and at the end, as `Detector.profile` calls it.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    noun: ClassVar[tuple[str, str]]
    measure: ClassVar[str]
    forms: ClassVar[tuple[Form[Any], ...]]
    options: ClassVar[frozenset[str]] = frozenset(
        {"score_threshold", "iou_threshold", "max_detections", "classes", "class_agnostic"}
    )
    has_boxes: ClassVar[bool] = True
    stages: ClassVar[tuple[str, str, str]] = ("letterbox", "decode", "suppress")

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


TASKS: Final[Table[Task[Any, Any]]] = Table(
    "yoloship.tasks",
    "task",
    MappingProxyType(
        {
            "detect": "yoloship.tasks.detect:Detect",
            "segment": "yoloship.tasks.segment:Segment",
            "pose": "yoloship.tasks.pose:Pose",
            "obb": "yoloship.tasks.obb:Obb",
            "classify": "yoloship.tasks.classify:Classify",
        }
    ),
    base="yoloship.tasks.task:Task",
)
"""By `ModelInfo.task`. An installed package adds one by an entry point of the group ``yoloship.tasks``."""


def task_of(info: ModelInfo, subject: str) -> Task[Any, Any]:
    """The task of a model.

    Args:
        info: The model's record.
        subject: The model's name, for messages.

    Raises:
        SessionError: no such task is known here.
    """
    try:
        task = TASKS.load(info.task)
    except InputError:
        raise SessionError(
            f"a model for the task {info.task[:40]!r} cannot be run here yet",
            subject=subject,
            expected=", ".join(TASKS),
        ) from None
    return task()


def info_of(
    session: Session,
    subject: str,
    class_names: Sequence[str] | None = None,
    *,
    canvas_hw: tuple[int, int] | None = None,
    transform: Transform | str | None = None,
) -> ModelInfo:
    """Find out what a detector must know about a model.

    A file that yoloship wrote contains a description. A foreign file is run once on a grey image, and its output shows
    what it is.

    Args:
        session: An open session of the model.
        subject: The file's name, for messages.
        class_names: Class names to use; those in the file are then not read.
        canvas_hw: (height, width) to run a model of dynamic size at; None takes 640.
        transform: For classification models: how an image becomes the input; None takes what the file says.

    Raises:
        InputError: the description in the file is damaged, or `class_names` or `transform` does not fit the model.
        SessionError: the model has an unknown form, or its boxes are wrong.
    """
    record = session.metadata.get(METADATA_KEY)
    if record is None:
        from yoloship.tasks.recognise import recognise_foreign

        info = recognise_foreign(session, subject, canvas_hw, class_names)
        return info if transform is None else info.with_transform(transform, subject=subject)
    info = ModelInfo.from_json(record, subject=subject)
    # Refuse a record that contradicts the graph beside it.
    task = task_of(info, subject)
    batch: int | str = "batch" if info.batch is None else info.batch
    height, width = (name if side is None else side for name, side in zip("hw", info.input_hw, strict=True))
    channels = info.channels
    shape = (batch, height, width, channels) if info.input_form == "image" else (batch, channels, height, width)
    dtypes = ("uint8",) if info.input_form == "image" else ("float32", "float16")
    spec = session.inputs[0] if len(session.inputs) == 1 else _image_of_two(session, info, subject)
    want, have = (
        [None if isinstance(axis, str) else axis for axis in axes] for axes in (shape, spec.shape if spec else ())
    )
    if spec is None or spec.dtype not in dtypes or have != want:
        raise SessionError(
            "the model's record contradicts its graph",
            subject=subject,
            expected=f"one input {dtypes[0]}({', '.join(map(str, shape))})",
            got="; ".join(map(str, session.inputs)),
            hint="export it again with yoloship",
        )
    task.check(session.outputs, info, subject)
    if class_names is not None:
        info = info.with_class_names(class_names, subject=subject)
    return info if transform is None else info.with_transform(transform, subject=subject)


def _image_of_two(session: Session, info: ModelInfo, subject: str) -> TensorSpec | None:
    """The input for images of a graph that takes the size of the boxes, too; None if it is not one."""
    specs = images_first(session.inputs)
    is_one = len(specs) == 2 and specs[1].is_target_size and form_of(info, subject).takes_size
    return specs[0] if is_one else None


def form_of(info: ModelInfo, subject: str) -> Form[Any]:
    """The output form of a model; the arguments and errors are those of `task_of`."""
    return task_of(info, subject).form(info.output_form, subject)


def refuse_other_task(task: Task[Any, Any], wanted: str, subject: str) -> NoReturn:
    """Refuse a model because it has another task than the caller asked for.

    Args:
        task: The model's task.
        wanted: The name of the task that was asked for.
        subject: The model's name, for messages.

    Raises:
        InputError: always.
    """
    raise InputError(
        f"is a {task.title}", subject=subject, expected=f"a {TASKS.load(wanted).title}",
        hint="'yoloship predict' runs models of every task (in Python, leave task out)",
    )  # fmt: skip


def refuse_other_results(info: ModelInfo, subject: str, doing: str) -> None:
    """Refuse a model whose results are not boxes, for what works with boxes only.

    Args:
        info: The model's record.
        subject: The model's name, for messages.
        doing: What cannot be done with it: "compared".

    Raises:
        InputError: the model is of such a task.
        SessionError: no such task is known here.
    """
    from yoloship.tasks.detect import Detect

    task = task_of(info, subject)
    if type(task) is not Detect:  # derived tasks answer more than boxes
        raise InputError(
            f"gives {task.noun[1]}, which cannot be {doing} yet",
            subject=subject,
            expected=f"a {Detect.title}",
            got=f"a {task.title}, which is judged by {task.measure}",
        )


def suppressing_forms() -> tuple[str, ...]:
    """Names of the output forms that have suppression inside, so that thresholds can be given for them."""
    return tuple(name for name, form in all_forms().items() if form.suppresses)


def all_forms() -> Mapping[str, Form[Any]]:
    """Every output form of every task that can be loaded, by name; of two tasks' forms of one name the first."""
    forms: dict[str, Form[Any]] = {}
    for name in TASKS:
        with suppress(DependencyError):  # another package's task, which only models of that task need
            for form in TASKS.load(name)().forms:
                forms.setdefault(form.name, form)
    return forms
