"""Outputs of a graph that has selected or suppressed boxes itself, so that the host does the rest: `HostFinish`."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from yoloship._util.closing import Closing
from yoloship.cuda.buffers import PinnedBuffer, download
from yoloship.errors import SessionError
from yoloship.tasks import task_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from yoloship.cuda.stream import Stream
    from yoloship.detect.options import DetectOptions
    from yoloship.letterbox import Letterbox
    from yoloship.model import ModelInfo
    from yoloship.results.detections import Detections
    from yoloship.runtime.base import DeviceTensor


class HostFinish(Closing):
    """Copies outputs to pinned memory behind the network, and makes results of them on the host.

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

    def read(
        self, letterboxes: Sequence[Letterbox], input_hw: tuple[int, int], options: DetectOptions
    ) -> list[Detections]:
        """The results of the last run, which the stream has passed.

        Args:
            letterboxes: Of the images, in their order; a batch that is larger was filled up.
            input_hw: (height, width) of the canvas in model pixels.
            options: What to keep.
        """
        names = self._info.class_names
        outputs = [array.copy() for array in self._arrays]  # the next run writes where they lie
        answers = self._form.decode(outputs, self._info, input_hw, options.score_threshold)
        wanted = options.class_ids(names)
        return [
            self._task.finish(answer, letterbox, options, wanted, names)
            for answer, letterbox in zip(answers, letterboxes, strict=False)
        ]

    def close(self) -> None:
        """Give the memory back. Closing twice is not an error."""
        self._arrays.clear()
        self._owned.close()
