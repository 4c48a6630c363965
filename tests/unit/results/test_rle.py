"""Run-length encoding against pycocotools, which defines it."""

from __future__ import annotations

import numpy as np
import pytest

from yoloship.results.rle import MAX_CHARS, compressed, decompressed, run_lengths

mask_library = pytest.importorskip("pycocotools.mask")


def whole(window: np.ndarray, left: int, top: int, hw: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(hw, bool)
    mask[top : top + window.shape[0], left : left + window.shape[1]] = window
    return mask


def official(mask: np.ndarray) -> str:
    text: str = mask_library.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
    return text


@pytest.mark.parametrize("share", [0.02, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("hw", [(1, 1), (1, 9), (9, 1), (37, 23), (64, 64)])
def test_the_text_is_that_of_pycocotools(hw: tuple[int, int], share: float) -> None:
    random = np.random.default_rng(3)
    for _ in range(20):
        mask = random.random(hw) < share
        assert compressed(run_lengths(mask, 0, 0, hw)) == official(mask)


def test_a_window_gives_the_text_of_the_whole_mask() -> None:
    random, hw = np.random.default_rng(4), (40, 50)
    for _ in range(50):
        top, left = int(random.integers(0, 40)), int(random.integers(0, 50))
        window = random.random((int(random.integers(1, 41 - top)), int(random.integers(1, 51 - left)))) < 0.7
        assert compressed(run_lengths(window, left, top, hw)) == official(whole(window, left, top, hw))


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_large_counts_need_several_characters_and_read_back() -> None:
    hw = (3000, 2000)
    window = np.ones((2999, 1500), bool)
    window[::7] = False
    text = compressed(run_lengths(window, 200, 1, hw))
    read = mask_library.decode({"size": list(hw), "counts": text.encode()}).astype(bool)
    np.testing.assert_array_equal(read, whole(window, 200, 1, hw))


@pytest.mark.parametrize("value", [False, True])
def test_a_mask_of_one_value_is_one_run(value: bool) -> None:
    mask = np.full((12, 34), value)
    assert compressed(run_lengths(mask, 0, 0, (12, 34))) == official(mask)
    assert run_lengths(mask, 0, 0, (12, 34)).tolist() == ([0, 408] if value else [408])


def test_no_pixels_at_all_is_background() -> None:
    empty = np.zeros((0, 0), bool)
    assert compressed(run_lengths(empty, 5, 5, (8, 8))) == official(np.zeros((8, 8), bool))


@pytest.mark.parametrize("hw", [(1, 1), (9, 1), (37, 23), (300, 200)])
def test_run_lengths_are_read_back_from_their_text(hw: tuple[int, int]) -> None:
    counts = run_lengths(np.random.default_rng(5).random(hw) < 0.4, 0, 0, hw)
    assert decompressed(compressed(counts)) == counts.tolist()


@pytest.mark.parametrize("text", ["o", "0\u00e9", "0 ", "p", "o" * 14 + "0", "0" * (MAX_CHARS + 1)])
def test_a_text_that_is_cut_or_has_other_letters_is_none_of_run_lengths(text: str) -> None:
    assert decompressed(text) is None
