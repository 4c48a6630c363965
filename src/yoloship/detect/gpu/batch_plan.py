"""One network run and all around it, ready on the device for one batch and canvas: `Plan`.

    tables, frames ─▶ fetch ─▶ letterbox ─▶ network ─▶ decode ─▶ suppress ─▶ … ─▶ pinned host memory

What comes behind the network is in `finishing`. If there are no kernels for the outputs, the host does the rest.

A `Plan` owns the network's context and the workspace. For each set of options it has a `Recording`: the whole chain as
one CUDA graph if the network allows that, else the steps before and behind the network as a graph each.
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from yoloship.cuda.buffers import DeviceBuffer, download, upload
from yoloship.cuda.letterbox import Canvas, CanvasForm, launch_fetch, launch_letterbox
from yoloship.cuda.letterbox_host import launch_letterbox_host
from yoloship.cuda.stream import Event, Graph, Pace
from yoloship.detect.gpu.finishing import HostFinish, KernelEnd, KernelFinish
from yoloship.errors import SessionError
from yoloship.tasks import form_of, task_of
from yoloship.tasks.decode import Candidates

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from yoloship.cuda.compiler import Launchable
    from yoloship.cuda.device import Device
    from yoloship.cuda.postprocess import Workspace
    from yoloship.cuda.stream import Stream, StreamCalls
    from yoloship.detect.gpu.staging import Front, Tables
    from yoloship.detect.options import DetectOptions
    from yoloship.letterbox import Letterbox
    from yoloship.model import ModelInfo
    from yoloship.results import Result
    from yoloship.runtime.session import DeviceContext, DeviceSession, DeviceTensor


_RECORDINGS: Final = 8
"""Sets of options, with and without a fetch, that a plan keeps ready."""

STAGES: Final = ("upload", "letterbox", "network", "postprocess")
"""What `Recording.launch_timed` tells apart."""


@dataclass(frozen=True, slots=True)
class DeviceModel:
    """What all runs of a detector share.

    Attributes:
        session: The network.
        info: What it is.
        kernels: Loaded on its device.
    """

    session: DeviceSession
    info: ModelInfo
    kernels: Mapping[str, Launchable]


class Plan:
    """Everything on the device for one batch size and canvas, on one stream. One thread at a time may use it.

    Args:
        model: What to run.
        calls: Of the stream that everything is queued on.
        batch: Images of a run.
        input_hw: (height, width) of the canvas in model pixels.

    Raises:
        CudaError: out of device memory.
        InputError: the network takes no such batch or canvas.
        SessionError: its output is not what the model's record promises.
    """

    def __init__(self, model: DeviceModel, calls: StreamCalls, batch: int, input_hw: tuple[int, int]) -> None:
        self.model = model
        self.calls = calls
        self.batch = batch
        self.input_hw = input_hw
        self._recordings: OrderedDict[tuple[DetectOptions, Tables, Front], Recording] = OrderedDict()
        self._last: Recording | None = None
        self._network: Graph | None = None
        info, stream = model.info, calls.stream
        shape = (batch, *input_hw, 3) if info.input_form == "image" else (batch, 3, *input_hw)
        with ExitStack() as stack:
            self.context = stack.enter_context(model.session.context({model.session.inputs[0].name: shape}, stream))
            feed = self.context.inputs[model.session.inputs[0].name]
            self.canvas = Canvas(feed.pointer, batch, input_hw, _canvas_form(feed, info))
            tensors, form = _outputs(self.context, model), form_of(info, "model")
            self._tensors = tensors
            self.host: HostFinish | None = None
            self.end: KernelEnd | None = None
            if form.on_gpu(info):
                place = partial(_upload, stack, stream)
                output = form.device_output(tensors, info, input_hw, place)
                extras = form.device_extras(tensors, info, input_hw, place)
                self.end = KernelEnd.made(stack, stream, output, extras, batch, len(info.class_names))
                for entry in self.end.kernels:
                    model.kernels[entry]  # loads it, which a recording could not
            else:
                self.host = stack.enter_context(HostFinish(tensors, info, stream))
            self._owned = stack.pop_all()

    def recording(self, options: DetectOptions, tables: Tables, front: Front) -> Recording:
        """The chain for these options, recorded now or before.

        Args:
            options: What to keep.
            tables: Where they lie; recordings for other places are dropped.
            front: What it begins with.
        """
        last = self._last
        if last is not None and last.suits(options, tables, front):
            return last
        for key in [key for key in self._recordings if key[1] != tables]:
            self._recordings.pop(key).close()
        key = (options, tables, front)
        found = self._recordings.get(key)
        if found is None:
            with self.model.session.making:
                found = self._recordings[key] = Recording(self, options, tables, front)
            while len(self._recordings) > _RECORDINGS:
                self._recordings.popitem(last=False)[1].close()
        self._recordings.move_to_end(key)
        self._last = found
        return found

    def network_graph(self) -> Graph | None:
        """The network by itself as a graph; None if it cannot be recorded."""
        if self._network is None and self.context.capturable:
            with self.model.session.making:
                self.context.rehearse()
                self._network = self._owned.enter_context(Graph(self.calls.stream, self.context.enqueue))
        return self._network

    def finish_again(self, row: int, candidates: int, letterbox: Letterbox, options: DetectOptions) -> Result:
        """Make an image's result on the host, from all that the last run gave; waits for the stream.

        Args:
            row: The image's place in the batch.
            candidates: How many candidates it has.
            letterbox: Where it lies.
            options: What to keep.
        """
        info, end = self.model.info, self.end
        assert end is not None
        task = task_of(info, "model")
        if end.extras is None and not end.output.is_rotated and not end.output.is_chosen:
            answer: Any = self._candidates(end.workspace, row, candidates)
        else:
            outputs = [np.empty((1, *tensor.shape[1:]), tensor.dtype) for tensor in self._tensors]
            for array, tensor in zip(outputs, self._tensors, strict=True):
                download(self.calls.stream, array, tensor.pointer + row * array.nbytes)
            self.calls.stream.sync()
            form = task.form(info.output_form, "model")
            (answer,) = form.decode(outputs, info, self.input_hw, options.score_threshold)
        wanted = None if options.classes is None else options.class_ids(info.class_names)
        result: Result = task.to_result(task.suppress(answer, options, wanted), letterbox, info.class_names)
        return result

    def _candidates(self, workspace: Workspace, row: int, count: int) -> Candidates:
        """All candidates of an image of the last run, in the order of the network's output."""
        capacity, stream = workspace.capacity, self.calls.stream
        count = min(count, capacity)
        parts: dict[str, npt.NDArray[Any]] = {
            "boxes": np.empty((count, 4), np.float32),
            "scores": np.empty(count, np.float32),
            "class_ids": np.empty(count, np.int32),
            "indices": np.empty(count, np.int32),
        }
        for name, array in parts.items():
            width = array.nbytes // count
            download(stream, array, workspace.part(name) + row * capacity * width)
        stream.sync()
        order = np.argsort(parts["indices"])
        return Candidates(parts["boxes"][order], parts["scores"][order], parts["class_ids"][order])

    def close(self) -> None:
        """Give everything back; the stream has passed all work. Closing twice is not an error."""
        self._last = None
        while self._recordings:
            self._recordings.popitem()[1].close()
        self._owned.close()


@dataclass(frozen=True, slots=True, eq=False)
class _Timed:
    """The chain with marks behind the upload, the letterbox, the network and the rest; owns them and its graphs."""

    owned: ExitStack
    marks: list[Event]
    graphs: tuple[Graph, ...]


class Recording:
    """The chain for one set of options.

    Attributes:
        pace: How long its runs take, as its user notes.
    """

    def __init__(self, plan: Plan, options: DetectOptions, tables: Tables, front: Front) -> None:
        self._plan = plan
        self._options = options
        self._tables = tables
        self._front = front
        self._kernels: KernelFinish | None = None
        self._again = partial(plan.finish_again, options=options)
        with ExitStack() as stack:
            if plan.end is not None:
                made = KernelFinish(plan.end, plan.model.info, options, plan.calls.stream)
                self._kernels = stack.enter_context(made)
            self._graphs = self._record(stack)
            self._owned = stack.pop_all()
        self._timed: _Timed | None = None
        self.pace = Pace()

    def suits(self, options: DetectOptions, tables: Tables, front: Front) -> bool:
        """Whether it was made for these very options."""
        return options is self._options and tables == self._tables and front == self._front

    def launch(self) -> None:
        """Queue the chain behind what the staging has queued; its `calls` are entered."""
        calls, graphs = self._plan.calls, self._graphs
        if len(graphs) == 1:
            calls.launch(graphs[0])
            return
        calls.launch(graphs[0])
        self._plan.context.enqueue()
        calls.launch(graphs[1])

    def launch_timed(self, before: Event) -> None:
        """The same with marks between the stages, for `stage_ms`.

        Args:
            before: Was recorded ahead of the staging's copies.
        """
        timed = self._timed = self._timed or self._record_timed(before.device)
        calls = self._plan.calls
        calls.stream.record(timed.marks[0])
        calls.launch(timed.graphs[0])
        if len(timed.graphs) > 1:
            self._plan.context.enqueue()
            calls.stream.record(timed.marks[2])
            calls.launch(timed.graphs[1])

    def stage_ms(self, before: Event) -> dict[str, float]:
        """Milliseconds of each of `STAGES` in the last timed run, which the stream has passed."""
        assert self._timed is not None
        marks = [before, *self._timed.marks]
        return {name: end.elapsed_ms(start) for name, start, end in zip(STAGES, marks, marks[1:], strict=False)}

    def read(self, letterboxes: Sequence[Letterbox]) -> list[Result]:
        """The results of the last run, which the stream has passed.

        Args:
            letterboxes: Where the images lie, in their order.
        """
        plan, options = self._plan, self._options
        if self._kernels is not None:
            return self._kernels.read(letterboxes, self._again)
        assert plan.host is not None
        return plan.host.read(letterboxes, plan.input_hw, options)

    def close(self) -> None:
        """Give everything back."""
        self._graphs = ()  # they know this object, which holds pinned memory: no cycle may keep it
        if self._timed is not None:
            self._timed.owned.close()
            self._timed = None
        self._owned.close()

    def _record_timed(self, device: Device) -> _Timed:
        with self._plan.model.session.making, ExitStack() as stack:
            marks = [stack.enter_context(Event(device, timing=True)) for _ in STAGES]
            graphs = self._record(stack, marks)
            return _Timed(stack.pop_all(), marks, graphs)

    def _record(self, stack: ExitStack, events: Sequence[Event] = ()) -> tuple[Graph, ...]:
        """One graph of everything, or two if the network stays outside."""
        plan, stream = self._plan, self._plan.calls.stream

        def before() -> None:
            front, kernels = self._front, plan.model.kernels
            if front.fetches:
                launch_fetch(kernels, stream, self._tables.letterbox, plan.batch)
            if not front.band:
                launch_letterbox(kernels, stream, self._tables.letterbox, plan.canvas)
            else:
                launch_letterbox_host(kernels, stream, self._tables.pinned, plan.canvas, front.band)
            if events:
                stream.record_in_graph(events[1])

        def behind() -> None:
            if plan.host is not None:
                plan.host.queue()
            elif self._kernels is not None:
                self._kernels.queue(plan.model.kernels, self._tables.results)
            if events:
                stream.record_in_graph(events[3])

        def whole() -> None:
            before()
            plan.context.enqueue()
            if events:
                stream.record_in_graph(events[2])
            behind()

        if plan.context.capturable:
            plan.context.rehearse()  # another thread may have made the plan
        works = (whole,) if plan.context.capturable else (before, behind)
        return tuple(stack.enter_context(Graph(stream, work)) for work in works)


def _canvas_form(feed: DeviceTensor, info: ModelInfo) -> CanvasForm:
    if info.input_form == "image" and feed.dtype == "uint8":
        return "uint8_bgr_hwc"
    if info.input_form == "float" and feed.dtype == "float32":
        return "float32_rgb_chw"
    if info.input_form == "float" and feed.dtype == "float16":
        return "float16_rgb_chw"
    raise SessionError(
        "the model's input does not match its metadata",
        subject=feed.name,
        expected="uint8" if info.input_form == "image" else "float32 or float16",
        got=feed.dtype,
    )


def _outputs(context: DeviceContext, model: DeviceModel) -> list[DeviceTensor]:
    """The outputs that the model's form reads, one row for each image of the batch."""
    specs = model.session.outputs
    places = form_of(model.info, "model").places(specs, model.info)
    tensors = [context.outputs[specs[place].name] for place in places]
    batch = next(iter(context.inputs.values())).shape[0]
    for tensor in tensors:
        if tensor.shape[:1] != (batch,):
            raise SessionError(
                "the model's output has another batch size",
                subject=tensor.name,
                expected=str(batch),
                got=str(tensor.shape),
            )
    return tensors


def _upload(stack: ExitStack, stream: Stream, table: npt.NDArray[Any]) -> int:
    """Copy a table to the device, where the stack owns it; its address."""
    memory = stack.enter_context(DeviceBuffer(stream.device, table.nbytes))
    upload(stream, memory.pointer, table)
    stream.sync()
    return memory.pointer
