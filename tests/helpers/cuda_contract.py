"""What every kernel must do, wherever it runs: the emulator and a real device pass the same tests.

A subclass gives the fixture `rig`, and `SIDE`, the usual canvas size (small where a CPU plays the GPU).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest

from helpers.cuda_steps import (
    ANCHORS,
    EXP_TOLERANCE,
    STRIDES,
    Rig,
    assert_same_detections,
    bgr_of_planes,
    candidates_of,
    crowd,
    descriptor,
    in_form,
    reference_detections,
    run_decode,
    run_letterbox,
    run_letterbox_host,
    run_nms,
)
from yoloship.cuda.device_pixels import ColourMatrix, DevicePixels, PixelFormat
from yoloship.cuda.letterbox import CanvasForm, FrameDescriptor, launch_fetch, pack_frames
from yoloship.cuda.letterbox_host import band_rows
from yoloship.cuda.postprocess import (
    MAX_SELECTED,
    HeadLevel,
    Heads,
    Raw,
    ScoreFilter,
    Suppression,
    Workspace,
    launch_decode,
    pack_levels,
    workspace_bytes,
    workspace_parts,
)
from yoloship.images.reading import _upright
from yoloship.letterbox import Letterbox
from yoloship.tasks.decode import heads_candidates, heads_to_raw, raw_candidates

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]


class LetterboxContract:
    """The tests of the letterbox on a GPU, and of fetching frames to it."""

    SIDE: ClassVar[int] = 640
    SIZES: ClassVar[tuple[tuple[int, int], ...]] = ((1080, 810), (720, 1280), (37, 200), (640, 640), (1, 1), (3, 900))

    @pytest.mark.parametrize("form", ["float32_rgb_chw", "float16_rgb_chw", "uint8_bgr_hwc"])
    def test_a_batch_of_mixed_sizes_gives_the_pixels_of_opencv_exactly(self, rig: Rig, form: CanvasForm) -> None:
        rng = np.random.default_rng()
        canvas_hw = (self.SIDE, self.SIDE * 3 // 4)
        frames, expected = [], []
        formats: tuple[PixelFormat, ...] = ("bgr", "rgb")
        for number, hw in enumerate(self.SIZES):
            image = rng.integers(0, 256, (*hw, 3), dtype=np.uint8)
            box = Letterbox.fixed(hw, canvas_hw)
            frames.append(descriptor(rig, image, box, formats[number % 2], padding=number * 5))
            expected.append(box.apply(image))
        found = run_letterbox(rig, frames, canvas_hw, form)
        np.testing.assert_array_equal(found, in_form(np.stack(expected), form))

    def test_sharp_edges_and_odd_sizes_give_the_pixels_of_opencv_exactly(self, rig: Rig) -> None:
        rng = np.random.default_rng()
        for _ in range(12):
            canvas_hw = tuple(int(side) for side in rng.integers(1, self.SIDE, 2))
            hw = tuple(int(side) for side in rng.integers(1, self.SIDE * 2, 2))
            image = (rng.integers(0, 2, (*hw, 3)) * 255).astype(np.uint8)
            box = Letterbox.fixed(hw, canvas_hw)  # type: ignore[arg-type]  # two sides
            found = run_letterbox(rig, [descriptor(rig, image, box)], canvas_hw, "uint8_bgr_hwc")  # type: ignore[arg-type]
            np.testing.assert_array_equal(found[0], box.apply(image), err_msg=f"{hw} on {canvas_hw}")

    @pytest.mark.parametrize("form", ["float16_rgb_chw", "uint8_bgr_hwc"])
    def test_a_frame_stored_turned_or_mirrored_is_letterboxed_as_if_it_were_upright(
        self, rig: Rig, form: CanvasForm
    ) -> None:
        rng = np.random.default_rng()
        canvas_hw = (self.SIDE, self.SIDE * 3 // 4)
        frames, expected = [], []
        formats: tuple[PixelFormat, ...] = ("bgr", "rgb")
        for orientation in range(1, 9):
            hw = self.SIZES[orientation % len(self.SIZES)]
            image = rng.integers(0, 256, (*hw, 3), dtype=np.uint8)
            upright = _upright(image, orientation)
            box = Letterbox.fixed(upright.shape[:2], canvas_hw)
            frames.append(
                descriptor(rig, image, box, formats[orientation // 2 % 2], padding=5, orientation=orientation)
            )
            expected.append(box.apply(upright))
        found = run_letterbox(rig, frames, canvas_hw, form)
        np.testing.assert_array_equal(found, in_form(np.stack(expected), form))

    @pytest.mark.parametrize("pixel_format", ["nv12", "p010"])
    def test_planes_of_any_size_colours_and_orientation_give_the_pixels_of_the_reference_exactly(
        self, rig: Rig, pixel_format: PixelFormat
    ) -> None:
        rng = np.random.default_rng()
        canvas_hw = (self.SIDE, self.SIDE)
        frames, expected = [], []
        matrices: tuple[ColourMatrix, ...] = ("bt601", "bt709", "bt2020")
        sizes = ((2, 2), (1, 1), (self.SIDE // 2, self.SIDE), (self.SIDE + 37, self.SIDE // 2 + 5), (self.SIDE, 33))
        for number in range(24):
            (height, width), orientation = sizes[number % 5], 1 + number % 8
            shape = (height + (height + 1) // 2, (width + 1) // 2 * 2)
            planes = rng.integers(0, 256, shape, dtype=np.uint8)
            if pixel_format == "p010":
                planes = planes.astype(np.uint16) * 257 + rng.integers(0, 64, shape, dtype=np.uint16)
            matrix, full_range = matrices[number % 3], number % 2 == 0
            upright = _upright(bgr_of_planes(planes, (height, width), matrix, full_range), orientation)
            box = Letterbox.fixed(upright.shape[:2], canvas_hw)
            stated: dict[str, Any] = {"orientation": orientation, "matrix": matrix, "full_range": full_range}
            frames.append(descriptor(rig, planes, box, pixel_format, padding=6, **stated))
            expected.append(box.apply(upright))
        found = run_letterbox(rig, frames, canvas_hw, "uint8_bgr_hwc")
        np.testing.assert_array_equal(found, np.stack(expected))

    @pytest.mark.parametrize("form", ["float32_rgb_chw", "float16_rgb_chw", "uint8_bgr_hwc"])
    def test_a_frame_in_the_hosts_memory_is_letterboxed_while_it_is_fetched(self, rig: Rig, form: CanvasForm) -> None:
        rng = np.random.default_rng()
        side = self.SIDE
        sizes = (*self.SIZES, (side * 3, side * 2), (side * 4, side), (side * 5 // 2, 7), (9, side * 8), (side, 1))
        for number, hw in enumerate(sizes):
            canvas_hw = (side, (side, side * 3 // 4, side + 5)[number % 3])
            image = rng.integers(0, 256, (*hw, 3), dtype=np.uint8)
            box = Letterbox.fixed(hw, canvas_hw)
            band = int(rng.integers(1, band_rows(3 * hw[1], hw[0], box.resized_hw[0], 1) + 1))
            stored = image if number % 2 else np.ascontiguousarray(image[..., ::-1])
            # Wherever it begins, also within a unit of the kernel's loads.
            data = rig.put(np.pad(stored.reshape(-1), (number, 32))) + number
            pixels = DevicePixels(data, 3 * hw[1], hw, "bgr" if number % 2 else "rgb")
            frame = FrameDescriptor(pixels, box.resized_hw, (box.top, box.left))
            found = run_letterbox_host(rig, frame, canvas_hw, form, band)
            np.testing.assert_array_equal(found, in_form(box.apply(image)[None], form), err_msg=f"{hw} {band}")

    def test_frames_are_fetched_to_where_they_are_read_and_nothing_else_is_touched(self, rig: Rig) -> None:
        rng = np.random.default_rng()
        sources = [rng.integers(0, 256, size, dtype=np.uint8) for size in (3 * 17 * 30, 3 * 1, 3 * 201 * 333)]
        sides = ((17, 30), (1, 1), (201, 333))
        targets = [rig.put(np.full(len(source) + 256, 7, np.uint8)) for source in sources]
        frames = [
            FrameDescriptor(DevicePixels(target, 3 * hw[1], hw), (8, 8), (0, 0), rig.put(np.pad(source, (0, 64))))
            for source, target, hw in zip(sources, targets, sides, strict=True)
        ]
        untouched = rig.put(np.full(512, 9, np.uint8))
        frames.append(FrameDescriptor(DevicePixels(untouched, 30, (10, 10)), (8, 8), (0, 0)))
        launch_fetch(rig.kernels, rig.stream, rig.put(pack_frames(frames, (8, 8))), len(frames))
        for source, target in zip(sources, targets, strict=True):
            found = rig.get(target, np.uint8, (len(source) + 256,))
            np.testing.assert_array_equal(found[: len(source)], source)
            assert (found[len(source) + 15 :] == 7).all()
        assert (rig.get(untouched, np.uint8, (512,)) == 9).all()


class PostprocessContract:
    """The tests of decoding and suppression on a GPU."""

    @pytest.mark.parametrize(("classes", "dtype"), [(80, np.float32), (1, np.float32), (3, np.float16)])
    def test_decoded_rows_give_the_candidates_of_numpy_exactly(self, rig: Rig, classes: int, dtype: Any) -> None:
        rng = np.random.default_rng()
        raw = rng.random((2, 700, 5 + classes)).astype(dtype)
        raw[..., :4] *= 100
        raw[0, :40, 4] = np.nan
        raw[0, 40:80, 5] = np.nan
        raw[0, 80:120, 0] = np.nan
        raw[0, 120:160, 3] = np.inf
        raw[1, :300, 4] = dtype(0.5)  # at the threshold, so dropped
        output = Raw(rig.put(raw), 700, "float32" if dtype is np.float32 else "float16")
        workspace = run_decode(rig, output, classes, 2, 0.5)
        for image in range(2):
            expected = raw_candidates(raw[image].astype(np.float32), 0.5)
            expected = expected.take(np.flatnonzero(np.isfinite(expected.boxes_xyxy).all(axis=1)))
            found = candidates_of(rig, workspace, image)
            np.testing.assert_array_equal(found["boxes"], expected.boxes_xyxy)
            np.testing.assert_array_equal(found["scores"], expected.scores)
            np.testing.assert_array_equal(found["class_ids"], expected.class_ids)

    @pytest.mark.parametrize(("classes", "dtype"), [(80, np.float32), (1, np.float32), (5, np.float16)])
    def test_undecoded_maps_give_the_candidates_of_numpy_but_for_exp(self, rig: Rig, classes: int, dtype: Any) -> None:
        rng = np.random.default_rng()
        threshold, input_hw, batch = 0.3, (96, 160), 2
        maps = [
            (rng.standard_normal((batch, 3 * (5 + classes), input_hw[0] // s, input_hw[1] // s)) * 3).astype(dtype)
            for s in STRIDES
        ]
        maps[0][0, 4, 0, :8] = np.nan
        maps[0][0, 5, 1, :8] = np.nan
        maps[1][1, 4] = 30
        output = self.heads(rig, maps)
        workspace = run_decode(rig, output, classes, batch, threshold)
        full = [level.astype(np.float32) for level in maps]
        raw = heads_to_raw(full, STRIDES, ANCHORS)
        for image in range(batch):
            found = candidates_of(rig, workspace, image)
            with np.errstate(invalid="ignore"):
                products = raw[image, :, 5:] * raw[image, :, 4:5]
                best = products.max(axis=1)
                sure = (best > threshold + EXP_TOLERANCE) & (raw[image, :, 4] > threshold + EXP_TOLERANCE)
                maybe = (best > threshold - EXP_TOLERANCE) & (raw[image, :, 4] > threshold - EXP_TOLERANCE)
            indices = found["indices"]
            assert set(np.flatnonzero(sure)) <= set(indices.tolist()) <= set(np.flatnonzero(maybe))
            np.testing.assert_allclose(found["scores"], best[indices], rtol=0, atol=EXP_TOLERANCE)
            chosen = products[indices, found["class_ids"]]
            np.testing.assert_allclose(chosen, best[indices], rtol=0, atol=EXP_TOLERANCE)
            half = raw[image, indices, 2:4] / 2
            boxes = np.concatenate([raw[image, indices, :2] - half, raw[image, indices, :2] + half], axis=1)
            np.testing.assert_allclose(found["boxes"], boxes, rtol=1e-5, atol=1e-3)
            expected = heads_candidates([level[image] for level in full], STRIDES, ANCHORS, threshold)
            assert abs(len(expected) - len(indices)) <= maybe.sum() - sure.sum()

    def test_only_allowed_classes_pass(self, rig: Rig) -> None:
        raw = np.random.default_rng().random((1, 500, 5 + 70), dtype=np.float32)
        workspace = run_decode(rig, Raw(rig.put(raw), 500), 70, 1, 0.2, allowed=[0, 31, 32, 69])
        expected = raw_candidates(raw[0], 0.2)
        expected = expected.take(np.isin(expected.class_ids, [0, 31, 32, 69]))
        found = candidates_of(rig, workspace, 0)
        np.testing.assert_array_equal(found["scores"], expected.scores)
        assert len(expected) > 0

    @pytest.mark.parametrize("class_agnostic", [False, True])
    def test_detections_are_those_of_the_reference_in_its_order(self, rig: Rig, class_agnostic: bool) -> None:
        rng = np.random.default_rng()
        counts = (0, 1, 2, 31, 33, 64, 150, 256, 257, 400)
        hws = [tuple(int(side) for side in rng.integers(20, 900, 2)) for _ in counts]
        boxes = [Letterbox.fixed(hw, (320, 320)) for hw in hws]  # type: ignore[arg-type]  # two sides
        raw = np.zeros((len(counts), 400, 8), np.float32)
        for image, count in enumerate(counts):
            raw[image, :count] = crowd(rng, count, 3)
        raw[:, 3] = np.nan
        suppression = Suppression(0.45, 300, class_agnostic)
        workspace = run_decode(rig, Raw(rig.put(raw), 400), 3, len(counts), 0.1)
        for image, result in enumerate(run_nms(rig, workspace, boxes, suppression)):
            assert_same_detections(result, reference_detections(raw[image], boxes[image], 0.1, suppression))
            assert (result.lost, result.passed_over) == (0, 0)

    def test_degenerate_boxes_are_judged_like_in_the_reference(self, rig: Rig) -> None:
        rng = np.random.default_rng()
        raw = crowd(rng, 200, 2)
        raw[:30, 2:4] = 0
        raw[30:60, 2] = -20
        raw[60:70, 0] = np.inf
        raw[70:80, 2] = 3e38
        raw[80:90, 2:4] = 1e25
        raw[90:100, :4] = raw[100:110, :4]
        box = Letterbox.fixed((300, 500), (320, 320))
        for limit in (0.0, 0.5, 1.0):
            suppression = Suppression(limit, 300)
            workspace = run_decode(rig, Raw(rig.put(raw[None]), 200), 2, 1, 0.0)
            with np.errstate(all="ignore"):
                expected = reference_detections(raw, box, 0.0, suppression)
            assert_same_detections(run_nms(rig, workspace, [box], suppression)[0], expected)

    def test_of_more_than_1024_candidates_exactly_the_best_take_part_and_the_rest_is_counted(self, rig: Rig) -> None:
        rng = np.random.default_rng()
        raw = np.stack([crowd(rng, 3000, 2, side=2000.0), crowd(rng, 3000, 2, side=2000.0)])
        raw[1, :, 4:6] = 1  # all scores equal, so the index alone decides
        box = Letterbox.fixed((2000, 2000), (2016, 2016))
        suppression = Suppression(0.9, 1000)
        workspace = run_decode(rig, Raw(rig.put(raw), 3000), 2, 2, 0.05)
        for image, result in enumerate(run_nms(rig, workspace, [box, box], suppression)):
            assert_same_detections(result, reference_detections(raw[image], box, 0.05, suppression))
            assert result.candidates == len(raw_candidates(raw[image], 0.05)) > MAX_SELECTED
            assert result.passed_over == result.candidates - MAX_SELECTED
            assert result.lost == 0

    def test_a_workspace_serves_batch_after_batch(self, rig: Rig) -> None:
        rng = np.random.default_rng()
        boxes = [Letterbox.fixed((500, 600), (320, 320))] * 3
        suppression = Suppression(0.6, 300)
        workspace = Workspace(rig.empty(workspace_bytes(3, 700)), 3, 700)
        rig.zero(workspace.part("counts"), 3)
        rig.zero(workspace.part("tickets"), 3)
        for counts in ((700, 20, 300), (20, 700, 0), (0, 0, 257)):
            raw = np.zeros((3, 700, 7), np.float32)
            for image, count in enumerate(counts):
                raw[image, :count] = crowd(rng, count, 2)
            output = Raw(rig.put(raw), 700)
            launch_decode(rig.kernels, rig.stream, output, ScoreFilter(2, 0.1), workspace)
            for image, result in enumerate(run_nms(rig, workspace, boxes, suppression)):
                assert_same_detections(result, reference_detections(raw[image], boxes[image], 0.1, suppression))
                assert result.candidates == len(raw_candidates(raw[image], 0.1))

    def test_no_more_than_the_maximum_comes_out(self, rig: Rig) -> None:
        raw = crowd(np.random.default_rng(), 700, 80, side=4000.0)
        box = Letterbox.fixed((4000, 4000), (4000, 4000))
        for maximum in (1, 32, 300):
            suppression = Suppression(0.7, maximum)
            workspace = run_decode(rig, Raw(rig.put(raw[None]), 700), 80, 1, 0.01)
            result = run_nms(rig, workspace, [box], suppression)[0]
            assert_same_detections(result, reference_detections(raw, box, 0.01, suppression))
            assert len(result.scores) == maximum

    def test_candidates_past_the_capacity_are_counted_and_nothing_is_written_past_it(self, rig: Rig) -> None:
        raw = crowd(np.random.default_rng(), 300, 2)
        raw[:, 4:] = 1
        workspace = run_decode(rig, Raw(rig.put(raw[None]), 300), 2, 1, 0.5, capacity=96)
        end = workspace_parts(1, 96)
        assert end["boxes"][1] == 96 * 16
        box = Letterbox.fixed((320, 320), (320, 320))
        result = run_nms(rig, workspace, [box], Suppression())[0]
        assert (result.candidates, result.lost, result.passed_over) == (300, 204, 0)
        assert len(result.scores) > 0

    def heads(self, rig: Rig, maps: list[npt.NDArray[Any]]) -> Heads:
        levels = tuple(
            HeadLevel(rig.put(level), (level.shape[2], level.shape[3]), stride, anchors)
            for level, stride, anchors in zip(maps, STRIDES, ANCHORS, strict=True)
        )
        return Heads(rig.put(pack_levels(levels)), levels, "float32" if maps[0].dtype == np.float32 else "float16")
