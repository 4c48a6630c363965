"""What ends the chain on a GPU: `KernelFinish` makes results of the network's outputs by kernels, `HostFinish` without.

    decode ─▶ suppress, back to source pixels ─▶ keypoints or masks of what is kept ─▶ pinned host memory ─▶ results

If there are no kernels for a model's outputs, the outputs themselves go to pinned memory.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from yoloship._util.closing import Closing
from yoloship.cuda.buffers import DeviceBuffer, PinnedBuffer, download, upload
from yoloship.cuda.extras import Keypoints, launch_keypoints
from yoloship.cuda.masks import FOUND_DTYPE, WINDOW_BYTES, MaskMemory, Prototypes, launch_masks
from yoloship.cuda.postprocess import (
    MAX_DETECTIONS,
    Results,
    ScoreFilter,
    Suppression,
    Workspace,
    clear,
    launch_decode,
    launch_nms,
    pack_classes,
    result_dtype,
    typed,
    workspace_bytes,
)
from yoloship.errors import SessionError
from yoloship.results.class_ids import class_ids_of
from yoloship.results.detections import Detections
from yoloship.results.mask_rules import MASK_RULES
from yoloship.results.masks import Masks, MaskWindow
from yoloship.tasks import task_of
from yoloship.tasks.decode import Candidates, corners

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt

    from yoloship.cuda.compiler import Launchable
    from yoloship.cuda.postprocess import DecodeInput
    from yoloship.cuda.stream import Stream
    from yoloship.detect.options import DetectOptions
    from yoloship.letterbox import Letterbox
    from yoloship.model import ModelInfo
    from yoloship.results import Result
    from yoloship.runtime.session import DeviceTensor

    DeviceExtras = Keypoints | Prototypes | None

_MOST_PAIRS: Final = 1 << 16
"""Candidates that fit into the workspace of a head without suppression, which has classes times as many as cells."""
_MASK_CANVASES: Final = 16
"""Masks that fill the whole canvas for which there is room, for each image …"""
_MASK_BYTES: Final = 32 << 20
"""… as long as all of a batch take no more than this. Pinned memory."""


class HostFinish(Closing):
    """What ends the chain if there are no kernels for the outputs: the host makes results of them.

    They are copied to pinned memory behind the network.

    Args:
        tensors: The outputs of a run that the model's output form reads, on the device.
        info: What the model is.
        stream: Where the copies are queued.

    Raises:
        CudaError: that much cannot be pinned.
        SessionError: an output has an element type that NumPy does not have.
    """

    def __init__(self, tensors: Sequence[DeviceTensor], info: ModelInfo, stream: Stream) -> None:
        self._tensors = tensors
        self._info = info
        self._stream = stream
        self._task = task_of(info, "model")
        self._form = self._task.form(info.output_form, "model")
        self._arrays: list[npt.NDArray[Any]] = []
        with ExitStack() as stack:
            for tensor in tensors:
                if tensor.dtype in {"bfloat16", "float8_e4m3fn"}:
                    raise SessionError("NumPy has no such element type", subject=tensor.name, got=tensor.dtype)
                memory = stack.enter_context(PinnedBuffer(stream.device, max(1, tensor.size_bytes)))
                self._arrays.append(memory.array(tensor.dtype, tensor.shape))
            self._owned = stack.pop_all()

    def queue(self) -> None:
        """Queue the copies, also while the stream is being recorded."""
        for array, tensor in zip(self._arrays, self._tensors, strict=True):
            download(self._stream, array, tensor.pointer)

    def read(self, letterboxes: Sequence[Letterbox], input_hw: tuple[int, int], options: DetectOptions) -> list[Result]:
        """The results of the last run, which the stream has passed.

        Args:
            letterboxes: Of the images, in their order; a batch that is larger was filled up.
            input_hw: (height, width) of the canvas in model pixels.
            options: What to keep.
        """
        names = self._info.class_names
        outputs = [array.copy() for array in self._arrays]  # the next run writes where they lie
        answers = self._form.decode(outputs, self._info, input_hw, options.score_threshold)
        wanted = None if options.classes is None else options.class_ids(names)
        return [
            self._task.to_result(self._task.suppress(answer, options, wanted), letterbox, names)
            for answer, letterbox in zip(answers, letterboxes, strict=False)
        ]

    def close(self) -> None:
        """Give the memory back. Closing twice is not an error."""
        self._arrays.clear()
        self._owned.close()


@dataclass(frozen=True, slots=True)
class KernelEnd:
    """What all recordings of a plan share for the kernels behind the network.

    Attributes:
        output: What the decoding kernel reads.
        extras: What keypoints or masks are made of.
        workspace: Memory between the steps.
        masks: Where masks go; None without masks.
        found: (batch, `MAX_DETECTIONS`) `FOUND_DTYPE`, as the host sees it; empty without masks.
        words_needed: (batch,) int32, as the host sees it.
        bits: (batch, bytes) uint8, as the host sees it.
    """

    output: DecodeInput
    extras: DeviceExtras
    workspace: Workspace
    masks: MaskMemory | None
    found: npt.NDArray[np.void]
    words_needed: npt.NDArray[np.int32]
    bits: npt.NDArray[np.uint8]

    @property
    def kernels(self) -> tuple[str, ...]:
        """Entry points of the kernels that only some models need; to be loaded before a stream is recorded."""
        extras = () if self.extras is None else self.extras.kernels
        return (typed(self.output.kernel, self.output.dtype), *extras)

    @classmethod
    def made(
        cls, stack: ExitStack, stream: Stream, output: DecodeInput, extras: DeviceExtras, batch: int, classes: int
    ) -> KernelEnd:
        """Allocate its memory.

        Args:
            stack: Owns the memory.
            stream: Where the kernels run.
            output: What the decoding kernel reads.
            extras: What keypoints or masks are made of.
            batch: Images of a run.
            classes: How many classes the model has.

        Raises:
            CudaError: out of device memory, or that much cannot be pinned.
        """
        cells, rotated = output.cells, output.is_rotated
        capacity = min(cells * classes, max(cells, _MOST_PAIRS)) if output.is_chosen else cells
        memory = stack.enter_context(DeviceBuffer(stream.device, workspace_bytes(batch, capacity, rotated)))
        workspace = Workspace(memory.pointer, batch, capacity, rotated)
        clear(stream, workspace)
        found, needed = np.empty((batch, 0), FOUND_DTYPE), np.zeros(batch, np.int32)
        bits, masks = np.empty((batch, 0), np.uint8), None
        if isinstance(extras, Prototypes):
            canvas_px = extras.hw[0] * extras.hw[1] * extras.factor**2
            words = max(1, min(_MASK_CANVASES * canvas_px // 32, _MASK_BYTES // (4 * batch)))
            windows = stack.enter_context(DeviceBuffer(stream.device, WINDOW_BYTES * MAX_DETECTIONS * batch))
            sizes = (FOUND_DTYPE.itemsize * MAX_DETECTIONS * batch, 4 * batch, 4 * words * batch)
            landings = [stack.enter_context(PinnedBuffer(stream.device, size)) for size in sizes]
            found = landings[0].array(FOUND_DTYPE, (batch * MAX_DETECTIONS,))
            needed = landings[1].array(np.int32, (batch,))
            bits = landings[2].array(np.uint8, (batch, 4 * words))
            places = [landing.pointer for landing in landings]
            masks = MaskMemory(MAX_DETECTIONS, windows.pointer, places[0], places[1], places[2], words)
        return cls(output, extras, workspace, masks, found, needed, bits)


class KernelFinish(Closing):
    """The kernels behind the network for one set of options, and where their results lie.

    Args:
        end: What the recordings of a plan share.
        info: What the model is.
        options: What to keep.
        stream: Where the kernels run.

    Raises:
        CudaError: out of device memory, or that much cannot be pinned.
    """

    def __init__(self, end: KernelEnd, info: ModelInfo, options: DetectOptions, stream: Stream) -> None:
        output, batch = end.output, end.workspace.batch
        self._end, self._info, self._options, self._stream = end, info, options, stream
        self._task = task_of(info, "model")
        self._enough = min(options.max_detections, output.most)
        self._suppression = Suppression(
            options.iou_threshold,
            min(self._enough, MAX_DETECTIONS),
            options.class_agnostic,
            output.is_chosen,
            output.is_ordered,
        )
        most, extras = self._suppression.max_detections, end.extras
        self._is_plain = extras is None and not output.is_chosen and not output.is_rotated
        self._keypoints = extras if isinstance(extras, Keypoints) else None
        self._prototypes: Prototypes | None = None
        self._masks = None if end.masks is None else replace(end.masks, max_detections=most)
        if isinstance(extras, Prototypes):
            self._prototypes = replace(extras, on_image=options.retina_masks)
            if options.mask_rule is not None:
                self._prototypes = replace(self._prototypes, **asdict(MASK_RULES[options.mask_rule]))
        points = self._keypoints
        numbers = int(output.is_rotated) if points is None else points.points * points.dimensions
        dtype = result_dtype(most, numbers)
        with ExitStack() as stack:
            landing = stack.enter_context(PinnedBuffer(stream.device, dtype.itemsize * batch))
            self._results = Results(landing.pointer, most, numbers, hands_on=extras is not None)
            found = landing.array(dtype, (batch,))
            self._heads = landing.array(np.int32, (batch, dtype.itemsize // 4))[:, :4]
            self._rows = [(one["boxes_xyxy"], one["scores"], one["class_ids"], one["extras"]) for one in found]
            mask = 0
            if options.classes is not None:
                packed = pack_classes(class_ids_of(options.classes, info.class_names), len(info.class_names))
                mask = stack.enter_context(DeviceBuffer(stream.device, packed.nbytes)).pointer
                upload(stream, mask, packed)
            self._filter = ScoreFilter(len(info.class_names), options.score_threshold, mask)
            stream.sync()
            self._owned = stack.pop_all()

    def queue(self, kernels: Mapping[str, Launchable], frame_table: int) -> None:
        """Queue the kernels, also while the stream is being recorded.

        Args:
            kernels: A `KernelSet`.
            frame_table: Device address of the table of the way back to source pixels.
        """
        end, stream = self._end, self._stream
        launch_decode(kernels, stream, end.output, self._filter, end.workspace)
        launch_nms(kernels, stream, end.workspace, self._suppression, frame_table, self._results)
        if self._keypoints is not None:
            launch_keypoints(kernels, stream, self._keypoints, end.workspace, frame_table, self._results)
        if self._prototypes is not None and self._masks is not None:
            launch_masks(kernels, stream, self._prototypes, end.workspace, frame_table, self._masks)

    def read(self, letterboxes: Sequence[Letterbox], again: Callable[[int, int, Letterbox], Result]) -> list[Result]:
        """The results of the last run, which the stream has passed.

        If more candidates than the kernels look at took part and could have changed the result, or if masks had no
        room, the image is finished again on the host.

        Args:
            letterboxes: Where the images lie, in their order.
            again: Finishes an image on the host: its place in the batch, how many candidates it has, and its letterbox.
        """
        found: list[Result] = []
        for row, (letterbox, head) in enumerate(zip(letterboxes, self._heads.tolist(), strict=False)):
            kept, candidates, lost, passed_over = head
            done = None
            if not lost and (not passed_over or kept >= self._enough):
                done = self._result(row, kept, letterbox)
            found.append(again(row, candidates, letterbox) if done is None else done)
        return found

    def close(self) -> None:
        """Give everything back. Closing twice is not an error."""
        self._owned.close()

    def _result(self, row: int, kept: int, letterbox: Letterbox) -> Result | None:
        """One image's result; None if the host must make it."""
        names = self._info.class_names
        all_boxes, all_scores, all_class_ids, all_extras = self._rows[row]
        boxes, scores, class_ids = all_boxes[:kept].copy(), all_scores[:kept].copy(), all_class_ids[:kept].copy()
        if self._is_plain:
            return Detections._trusted(boxes, scores, class_ids, names, letterbox.image_hw)
        extras = all_extras[:kept].copy()
        if self._end.output.is_chosen and kept and class_ids.min() < 0:
            return None  # the host's decoding says what is wrong
        if self._end.output.is_rotated:
            oriented = Candidates(corners(boxes), scores, class_ids, extras=extras)
            result: Result = self._task.to_result(oriented, letterbox, names)
            return result
        if self._keypoints is not None:
            points = extras.reshape(kept, self._keypoints.points, self._keypoints.dimensions)
            if (unknown := np.isnan(points).any(axis=(1, 2))).any():
                boxes, scores, class_ids, points = (array[~unknown] for array in (boxes, scores, class_ids, points))
            return Detections._trusted(boxes, scores, class_ids, names, letterbox.image_hw, keypoints=points)
        if self._prototypes is None:
            return Detections._trusted(boxes, scores, class_ids, names, letterbox.image_hw)
        windows = self._windows(row, kept)
        if windows is None:
            return None
        if self._prototypes.drops_empty and any(window.is_empty for window in windows):
            rows = [place for place, window in enumerate(windows) if not window.is_empty]
            boxes, scores, class_ids = boxes[rows], scores[rows], class_ids[rows]
            windows = [windows[place] for place in rows]
        masks = Masks(tuple(windows), letterbox.image_hw, None if self._prototypes.on_image else letterbox)
        return Detections._trusted(boxes, scores, class_ids, names, letterbox.image_hw, masks=masks)

    def _windows(self, row: int, kept: int) -> list[MaskWindow] | None:
        """The windows of one image's masks; None if not all had room."""
        end, most = self._end, self._suppression.max_detections
        if not kept:
            return []
        if 4 * int(end.words_needed[row]) > end.bits.shape[1]:
            return None
        bits, windows = end.bits[row], []
        for top, left, height, width, first in end.found[row * most : row * most + kept].tolist():
            if not height:
                windows.append(MaskWindow.empty())
                continue
            data = bits[4 * first : 4 * first + (height * width + 7) // 8].tobytes()
            windows.append(MaskWindow(left, top, (height, width), data))
        return windows
