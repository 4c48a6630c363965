"""What the kernels of masks must do; see `helpers.cuda_contract`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from helpers.cuda_steps import Rig, frame_table, run_decode
from helpers.cuda_task_contract import dtype_name
from yoloship.cuda.extras import ExtraLevel, Extras, pack_extra_levels
from yoloship.cuda.free_heads import Chosen, Span
from yoloship.cuda.masks import FOUND_DTYPE, WINDOW_BYTES, MaskMemory, Prototypes, launch_masks
from yoloship.cuda.postprocess import Results, Suppression, launch_nms, result_dtype
from yoloship.letterbox import Letterbox
from yoloship.results.mask_rules import MASK_RULES
from yoloship.tasks.prototypes import masks_on_canvas, masks_on_image

if TYPE_CHECKING:
    import numpy.typing as npt


class MasksContract:
    """The tests of masks on a GPU."""

    @pytest.mark.parametrize("rule", ["yolov5", "ultralytics-8.2.43", "ultralytics-8.4.61"])
    @pytest.mark.parametrize("on_image", [False, True])
    def test_masks_are_those_of_numpy(self, rig: Rig, rule: str, on_image: bool) -> None:
        self.check(rig, [(75, 128), (300, 170), (13, 40), (128, 192)], (rule, on_image), factor=4)

    @pytest.mark.parametrize(("factor", "dtype"), [(1, np.float32), (2, np.float16), (3, np.float32)])
    def test_prototypes_of_other_cells_and_of_half_precision(self, rig: Rig, factor: int, dtype: Any) -> None:
        for on_image in (False, True):
            self.check(rig, [(100, 90)], ("ultralytics-8.4.61", on_image), factor, dtype)

    def test_windows_without_room_are_counted_and_not_filled(self, rig: Rig) -> None:
        found, needed, bits = self.run(
            rig, self.scene(np.random.default_rng(), 1, 4), ("yolov5", False), 4, capacity=50
        )
        sizes = found["height"][0] * found["width"][0]
        words = -(-sizes // 32)
        assert needed[0] == words.sum() > 50
        assert (found["first_word"][0] == np.cumsum(words) - words).all()
        fits = found["first_word"][0] + words <= 50
        assert not fits.all()
        assert (bits[0, int(words[fits].sum()) :] == 0xCDCDCDCD).all()

    def scene(
        self, rng: np.random.Generator, batch: int, factor: int, dtype: Any = np.float32
    ) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Chosen rows with coefficients, on a canvas of 128×192, and smooth prototypes."""
        rows = np.zeros((batch, 12, 6 + 8), dtype)
        rows[..., :2] = rng.random((batch, 12, 2)) * [150, 90] - 10
        rows[..., 2:4] = rows[..., :2] + rng.random((batch, 12, 2)) * [120, 80]
        rows[..., 0, :4] = (20.3, 30.2, 20.9, 30.9)  # between two pixels
        rows[..., 1, :4] = (-20, -20, 500, 500)
        rows[..., 4] = np.linspace(0.9, 0.5, 12)
        rows[..., 6:] = rng.standard_normal((batch, 12, 8))
        rows[..., 2, 6:] = 0  # a mask that is nowhere above the limit
        coarse = rng.standard_normal((batch, 8, 8, 12), np.float32)
        height, width = -(-128 // factor), -(-192 // factor)
        prototypes = np.repeat(np.repeat(coarse, -(-height // 8), axis=2), -(-width // 12), axis=3)
        return rows, np.ascontiguousarray(prototypes[:, :, :height, :width]).astype(dtype)

    def run(
        self, rig: Rig, scene: tuple[npt.NDArray[Any], npt.NDArray[Any]], how: tuple[str, bool], factor: int,
        capacity: int = 40_000, boxes: list[Letterbox] | None = None,
    ) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:  # fmt: skip
        (rows, prototypes), (rule, on_image) = scene, how
        batch, item = len(rows), rows.itemsize
        span = Span(rig.put(rows) + 6 * item, 12 * 14, 1, 14)
        table = Extras(rig.put(pack_extra_levels([ExtraLevel(span, (1, 12))])), 1, dtype_name(rows))
        canvas_hw = (prototypes.shape[2] * factor, prototypes.shape[3] * factor)
        boxes = boxes or [Letterbox.fixed(canvas_hw, canvas_hw)] * batch
        results = Results(rig.empty(result_dtype(20).itemsize * batch), 20, hands_on=True)
        chosen = Chosen(span.pointer - 6 * item, 12, 14, dtype_name(rows))
        workspace = run_decode(rig, chosen, 1, batch, 0.3)
        frames = frame_table(rig, boxes)
        launch_nms(rig.kernels, rig.stream, workspace, Suppression(0.6, 20, keeps_overlaps=True), frames, results)
        made = MASK_RULES[rule]
        source = Prototypes(
            rig.put(prototypes), 8, (prototypes.shape[2], prototypes.shape[3]), factor, table, made.squashes,
            made.crops_first, made.drops_empty, on_image,
        )  # fmt: skip
        memory = MaskMemory(
            20, rig.empty(20 * batch * WINDOW_BYTES), rig.empty(20 * batch * FOUND_DTYPE.itemsize),
            rig.empty(4 * batch), rig.empty(4 * batch * capacity), capacity,
        )  # fmt: skip
        launch_masks(rig.kernels, rig.stream, source, workspace, frames, memory)
        found = rig.get(memory.found, FOUND_DTYPE, (batch, 20))[:, :12]
        needed = rig.get(memory.words_needed, np.int32, (batch,))
        return found, needed, rig.get(memory.bits, np.uint32, (batch, capacity))

    def check(
        self, rig: Rig, hws: list[tuple[int, int]], how: tuple[str, bool], factor: int, dtype: Any = np.float32
    ) -> None:  # fmt: skip
        rule, on_image = how
        rows, prototypes = self.scene(np.random.default_rng(), len(hws), factor, dtype)
        canvas_hw = (prototypes.shape[2] * factor, prototypes.shape[3] * factor)
        boxes = [Letterbox.fixed(hw, canvas_hw) for hw in hws]
        found, needed, bits = self.run(rig, (rows, prototypes), how, factor, boxes=boxes)
        for image, box in enumerate(boxes):
            corners, weights = rows[image, :, :4].astype(np.float32), rows[image, :, 6:].astype(np.float32)
            maps = prototypes[image].astype(np.float32)
            if on_image:
                height, width = box.image_hw
                corners = np.clip(box.to_image(corners.astype(np.float64)), 0, [width, height] * 2).astype(np.float32)
                masks = masks_on_image(corners, weights, maps, box, MASK_RULES[rule])
            else:
                masks = masks_on_canvas(corners, weights, maps, box, MASK_RULES[rule])
            end = 0
            for place, window in zip(found[image], masks.windows, strict=True):
                assert (place["height"], place["width"]) == window.hw
                assert place["first_word"] == end
                end += -(-window.hw[0] * window.hw[1] // 32)
                if not window.bits:
                    continue
                assert (place["top"], place["left"]) == (window.top, window.left)
                words = bits[image, place["first_word"] : end]
                own = np.unpackbits(words.view(np.uint8))
                pixels = window.pixels.ravel()
                assert not own[len(pixels) :].any()
                differ = np.count_nonzero(own[: len(pixels)] != pixels)
                assert differ <= max(1, len(pixels) // 2000)  # where the order of a sum decides
            assert needed[image] == end
