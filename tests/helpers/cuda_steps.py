"""The steps of the GPU pipeline, one call each, on a GPU or a stand-in, and the CPU's result for comparison."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from yoloship.cuda.device_pixels import ColourMatrix, DevicePixels, PixelFormat
from yoloship.cuda.letterbox import Canvas, CanvasForm, FrameDescriptor, launch_letterbox, pack_frames
from yoloship.cuda.letterbox_host import launch_letterbox_host
from yoloship.cuda.postprocess import (
    MAX_SELECTED,
    DecodeInput,
    Results,
    ScoreFilter,
    Suppression,
    Workspace,
    launch_decode,
    launch_nms,
    pack_classes,
    result_dtype,
    workspace_bytes,
)
from yoloship.letterbox import Letterbox
from yoloship.tasks.decode import raw_candidates
from yoloship.tasks.nms import nms, nms_reference

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from yoloship.cuda.compiler import Launchable

    Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ImageResult:
    """The detections of one image as the kernels wrote them, best first, and the counts of dropped candidates."""

    boxes_xyxy: Floats
    scores: Floats
    class_ids: npt.NDArray[np.int32]
    indices: npt.NDArray[np.int32]
    extras: Floats
    candidates: int
    lost: int
    passed_over: int


def read_result(entry: Any) -> ImageResult:
    """One entry of a downloaded array of `result_dtype`, copied."""
    kept = int(entry["kept"])
    arrays = (entry[name][:kept].copy() for name in ("boxes_xyxy", "scores", "class_ids", "indices", "extras"))
    return ImageResult(*arrays, *(int(entry[name]) for name in ("candidates", "lost", "passed_over")))


class Rig(Protocol):
    """What the tests need of a device."""

    kernels: Mapping[str, Launchable]
    stream: Any

    def put(self, array: npt.NDArray[Any]) -> int:
        """Copy an array to the device; its address."""

    def empty(self, size_bytes: int) -> int:
        """Memory on the device, filled with rubbish; its address, a multiple of 256."""

    def zero(self, address: int, words: int) -> None:
        """Set 32-bit words to 0."""

    def get(self, address: int, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        """Copy from the device, after all work on it."""


ANCHORS = (
    ((10.0, 13.0), (16.0, 30.0), (33.0, 23.0)),
    ((30.0, 61.0), (62.0, 45.0), (59.0, 119.0)),
    ((116.0, 90.0), (156.0, 198.0), (373.0, 326.0)),
)
STRIDES = (8, 16, 32)
_CANVAS_DTYPES: dict[CanvasForm, np.dtype[Any]] = {
    "float32_rgb_chw": np.dtype(np.float32),
    "float16_rgb_chw": np.dtype(np.float16),
    "uint8_bgr_hwc": np.dtype(np.uint8),
}  # fmt: skip
EXP_TOLERANCE = 2e-6
"""How far float32 scores may differ because exp() differs in its last bits."""


def descriptor(
    rig: Rig,
    image: npt.NDArray[Any],
    box: Letterbox,
    pixel_format: PixelFormat = "bgr",
    padding: int = 0,
    **stated: Any,
) -> FrameDescriptor:
    """Put an image on the device in some format, with rubbish between its rows.

    Args:
        rig: The device.
        image: As it is stored: BGR, whatever the packed format; or luma rows with chroma rows behind them.
        box: Where the upright image lies on the canvas.
        pixel_format: What to make of it.
        padding: Samples between rows.
        stated: Further fields of `DevicePixels`.
    """
    place = (box.resized_hw, (box.top, box.left))
    if pixel_format in {"nv12", "p010"}:
        height, width = (box.image_hw, box.image_hw[::-1])[stated.get("orientation", 1) >= 5]
        luma, chroma = image[:height, :width], image[height:]
        padded = [np.pad(plane, ((0, 0), (0, padding)), constant_values=77) for plane in (luma, chroma)]
        (first, pitch), (second, chroma_pitch) = ((rig.put(plane), plane.strides[0]) for plane in padded)
        pixels = DevicePixels(first, pitch, (height, width), pixel_format, second, chroma_pitch, **stated)
        return FrameDescriptor(pixels, *place)
    height, width = image.shape[:2]
    rows = image.reshape(height, 3 * width)
    if pixel_format == "rgb":
        rows = np.ascontiguousarray(image[..., ::-1]).reshape(height, 3 * width)
    data = rig.put(np.pad(rows, ((0, 0), (0, padding)), constant_values=77))
    pixels = DevicePixels(data, 3 * width + padding, (height, width), pixel_format, **stated)
    return FrameDescriptor(pixels, *place)


def bgr_of_planes(
    planes: npt.NDArray[Any], image_hw: tuple[int, int], matrix: ColourMatrix, full_range: bool
) -> npt.NDArray[np.uint8]:
    """The reference of how NV12 (uint8) and P010 (uint16) become BGR; for NV12 a test compares it with libswscale."""
    height, width = image_hw
    is_deep = planes.dtype == np.uint16
    eighths = (planes >> 6 << 1 if is_deep else planes.astype(np.uint16) << 3).astype(np.int64)
    luma, pairs = eighths[:height, :width], eighths[height:]
    u, v = (pairs[:, at::2].repeat(2, 0).repeat(2, 1)[:height, :width] - 1024 for at in (0, 1))
    layout = DevicePixels(2, 2 * width + 2, image_hw, "p010", 2, 2 * width + 2, matrix=matrix, full_range=full_range)
    weight, red_v, blue_u, green_u, green_v, black = layout.colours()
    channels = [[u * blue_u], [u * green_u, v * green_v], [v * red_v]]
    shade = (luma - black) * weight
    if is_deep:
        sums = [(shade + sum(parts) + (1 << 15)) >> 16 for parts in channels]
    else:
        sums = [(shade >> 16) + sum(part >> 16 for part in parts) for parts in channels]
    return np.stack(sums, -1).clip(0, 255).astype(np.uint8)


def run_letterbox(
    rig: Rig, frames: list[FrameDescriptor], canvas_hw: tuple[int, int], form: CanvasForm
) -> npt.NDArray[Any]:
    canvas = empty_canvas(rig, len(frames), canvas_hw, form)
    launch_letterbox(rig.kernels, rig.stream, rig.put(pack_frames(frames, canvas_hw)), canvas)
    return canvas_of(rig, canvas)


def run_letterbox_host(
    rig: Rig,
    frame: FrameDescriptor,
    canvas_hw: tuple[int, int],
    form: CanvasForm,
    band: int,
) -> npt.NDArray[Any]:
    """The same for one frame; where it lies does not matter to the kernel."""
    canvas = empty_canvas(rig, 1, canvas_hw, form)
    launch_letterbox_host(rig.kernels, rig.stream, rig.put(pack_frames([frame], canvas_hw)), canvas, band)
    return canvas_of(rig, canvas)


def empty_canvas(rig: Rig, batch: int, canvas_hw: tuple[int, int], form: CanvasForm) -> Canvas:
    size = 3 * batch * canvas_hw[0] * canvas_hw[1] * _CANVAS_DTYPES[form].itemsize
    canvas = Canvas(rig.empty(size), batch, canvas_hw, form)
    assert canvas.size_bytes == size
    return canvas


def canvas_of(rig: Rig, canvas: Canvas) -> npt.NDArray[Any]:
    is_image = canvas.form == "uint8_bgr_hwc"
    shape = (canvas.batch, *canvas.canvas_hw, 3) if is_image else (canvas.batch, 3, *canvas.canvas_hw)
    return rig.get(canvas.pointer, _CANVAS_DTYPES[canvas.form], shape)


def in_form(canvases: npt.NDArray[np.uint8], form: CanvasForm) -> npt.NDArray[Any]:
    """(n, H, W, 3) uint8 BGR as the model's input has it: the reference of the kernels' last step."""
    if form == "uint8_bgr_hwc":
        return canvases
    planes: npt.NDArray[Any] = canvases[..., ::-1].transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    return planes.astype(np.float16) if form == "float16_rgb_chw" else planes


def run_decode(
    rig: Rig, output: DecodeInput, classes: int, batch: int, threshold: float,
    *, allowed: list[int] | None = None, capacity: int | None = None,
) -> Workspace:  # fmt: skip
    capacity = output.cells if capacity is None else capacity
    rotated = output.is_rotated
    workspace = Workspace(rig.empty(workspace_bytes(batch, capacity, rotated)), batch, capacity, rotated)
    rig.zero(workspace.part("counts"), batch)
    rig.zero(workspace.part("tickets"), batch)
    mask = 0 if allowed is None else rig.put(pack_classes(allowed, classes))
    launch_decode(rig.kernels, rig.stream, output, ScoreFilter(classes, threshold, mask), workspace)
    return workspace


def candidates_of(rig: Rig, workspace: Workspace, image: int) -> dict[str, npt.NDArray[Any]]:
    """The candidates of one image after decoding, by index."""
    batch, capacity = workspace.batch, workspace.capacity
    count = int(rig.get(workspace.part("counts"), np.uint32, (batch,))[image])
    found: dict[str, npt.NDArray[Any]] = {}
    for name, dtype, shape in (
        ("boxes", np.float32, (batch, capacity, 4)),
        ("scores", np.float32, (batch, capacity)),
        ("class_ids", np.int32, (batch, capacity)),
        ("indices", np.int32, (batch, capacity)),
        *([("angles", np.float32, (batch, capacity))] if workspace.rotated else []),
    ):
        found[name] = rig.get(workspace.part(name), dtype, shape)[image, : min(count, capacity)]
    order = np.argsort(found["indices"])
    return {name: values[order] for name, values in found.items()}


def run_nms(rig: Rig, workspace: Workspace, boxes: list[Letterbox], suppression: Suppression) -> list[ImageResult]:
    dtype = result_dtype(suppression.max_detections, int(workspace.rotated))
    results = Results(rig.empty(dtype.itemsize * len(boxes)), suppression.max_detections, int(workspace.rotated))
    launch_nms(rig.kernels, rig.stream, workspace, suppression, frame_table(rig, boxes), results)
    return [read_result(record) for record in rig.get(results.pointer, dtype, (len(boxes),))]


def frame_table(rig: Rig, boxes: list[Letterbox]) -> int:
    """The table of the way back from the canvas, on the device."""
    frames = [
        FrameDescriptor(DevicePixels(1, 3 * box.image_hw[1], box.image_hw), box.resized_hw, (box.top, box.left))
        for box in boxes
    ]
    return rig.put(pack_frames(frames, boxes[0].input_hw))


def reference_detections(
    raw: Floats, box: Letterbox, threshold: float, suppression: Suppression
) -> tuple[Floats, Floats, npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """The CPU pipeline's answer for one image, with the places in the raw output, for at most 1024 candidates."""
    found = raw_candidates(raw, threshold)
    with np.errstate(invalid="ignore"):
        passed = raw[:, 4] > np.float32(threshold)
        best = (raw[:, 5:] * raw[:, 4:5]).max(axis=1)
        places = np.flatnonzero(passed & (best > np.float32(threshold)))
    assert len(places) == len(found)
    usable = np.flatnonzero(np.isfinite(found.boxes_xyxy).all(axis=1))
    found, places = found.take(usable), places[usable]
    best_first = np.argsort(-found.scores, kind="stable")[:MAX_SELECTED]
    found, places = found.take(best_first), places[best_first]
    groups = np.zeros_like(found.class_ids) if suppression.class_agnostic else found.class_ids
    suppress = nms_reference if len(found) <= 150 else nms  # the same boxes; the plain one takes minutes for crowds
    kept = suppress(
        found.boxes_xyxy, found.scores, groups,
        iou_threshold=suppression.iou_threshold, max_detections=suppression.max_detections,
    )  # fmt: skip
    height, width = box.image_hw
    limits = np.array([width, height, width, height], np.float32)
    boxes = np.clip(box.to_image(found.boxes_xyxy[kept]), np.float32(0), limits)
    return boxes, found.scores[kept], found.class_ids[kept], places[kept]


def assert_same_detections(result: ImageResult, expected: tuple[Any, ...]) -> None:
    boxes, scores, class_ids, places = expected
    np.testing.assert_array_equal(result.indices, places)
    np.testing.assert_array_equal(result.scores, scores)
    np.testing.assert_array_equal(result.class_ids, class_ids)
    np.testing.assert_array_equal(result.boxes_xyxy, boxes)


def crowd(rng: np.random.Generator, count: int, classes: int, side: float = 320.0) -> Floats:
    """(count, 5 + classes) decoded rows whose boxes overlap a lot and whose scores tie a lot."""
    raw = rng.random((count, 5 + classes), dtype=np.float32)
    raw[:, :2] = np.round(rng.random((count, 2)) * 12) / 12 * side
    raw[:, 2:4] = np.round(1 + rng.random((count, 2)) * 5) / 12 * side
    raw[:, 4] = np.round(raw[:, 4] * 8) / 8
    raw[:, 5:] = np.round(raw[:, 5:] * 4) / 4
    return raw
