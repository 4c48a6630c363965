from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from yoloship.detect.gpu import filling
from yoloship.detect.gpu.filling import Copiers, Piece, fill, staged_hw
from yoloship.detect.gpu.staging import Frame
from yoloship.detect.gpu.transfer import RowPick
from yoloship.letterbox import Letterbox

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt


@pytest.mark.parametrize("hw", [(50, 120), (300, 90), (256, 90), (1, 3)])
def test_the_rows_that_count_are_copied_with_red_and_blue_swapped(hw: tuple[int, int]) -> None:
    image = np.random.default_rng().integers(0, 256, (*hw, 3), dtype=np.uint8)
    box = Letterbox.fixed(hw, (64, 96))
    pick = RowPick.of(box)
    frame = Frame(image, box, "copied", pick=pick)
    target = np.zeros((*staged_hw(frame), 3), np.uint8)
    chosen = list(range(hw[0]))
    if pick is not None:
        chosen = [row for row in chosen if 0 <= (row - pick.first) % pick.step < pick.count]
    fill(frame, target)
    np.testing.assert_array_equal(target, image[chosen][..., ::-1])


@pytest.mark.parametrize("hw", [(128, 192), (32, 48)])
def test_a_frame_is_scaled_as_the_letterbox_does(hw: tuple[int, int]) -> None:
    image = np.random.default_rng().integers(0, 256, (*hw, 3), dtype=np.uint8)
    box = Letterbox.fixed(hw, (64, 96))
    target: Any = np.zeros((*box.resized_hw, 3), np.uint8)
    fill(Frame(image, box, "resized"), target)
    np.testing.assert_array_equal(target, box.apply(image))


def chosen_rows(frame: Frame) -> npt.NDArray[np.uint8]:
    pixels: npt.NDArray[np.uint8] = frame.pixels
    pick = frame.pick
    if pick is None:
        return pixels
    return pixels[[row for row in range(len(pixels)) if 0 <= (row - pick.first) % pick.step < pick.count]]


def copied(copiers: Copiers, pieces: Sequence[Piece], pinned: npt.NDArray[np.uint8]) -> list[Piece]:
    """Copy pieces; those that were there, as they came."""
    there: list[Piece] = []
    copiers.copy(pieces, pinned, there.append)
    return there


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("hw", [(50, 120), (300, 90), (256, 90), (1, 3)])
def test_frames_of_a_batch_lie_one_behind_the_other_in_order(
    hw: tuple[int, int], threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filling, "_PIECE_BYTES", 30_000)
    rng = np.random.default_rng()
    frames = []
    for _ in range(11):
        box = Letterbox.fixed(hw, (64, 96))
        frames.append(
            Frame(rng.integers(0, 256, (*hw, 3), dtype=np.uint8), box, "copied", channels="rgb", pick=RowPick.of(box))
        )
    assert len({filling.kind(frame) for frame in frames}) == 1
    sizes = [3 * staged_hw(frame)[0] * staged_hw(frame)[1] for frame in frames]
    pinned = np.full(sum(sizes) + 20, 7, np.uint8)
    with Copiers(threads) as copiers:
        pieces = copiers.pieces(list(zip(frames, sizes, strict=True)), 13)
        assert [frame for piece in pieces for frame in piece.frames] == frames
        assert [piece.start for piece in pieces] == [
            13 + sum(piece.size_bytes for piece in pieces[:n]) for n in range(len(pieces))
        ]
        assert {piece.start for piece in copied(copiers, pieces, pinned)} == {piece.start for piece in pieces}
    np.testing.assert_array_equal(pinned[13:-7], np.concatenate([chosen_rows(frame).ravel() for frame in frames]))
    assert set(pinned[:13]) | set(pinned[-7:]) == {7}


def test_scaled_frames_of_a_batch_are_those_that_are_scaled_alone() -> None:
    rng = np.random.default_rng()
    frames = [
        Frame(rng.integers(0, 256, (*hw, 3), dtype=np.uint8), Letterbox.fixed(hw, (64, 96)), "resized")
        for hw in ((128, 192), (90, 200), (32, 48))
    ]
    alone = [np.zeros((*frame.letterbox.resized_hw, 3), np.uint8) for frame in frames]
    for frame, target in zip(frames, alone, strict=True):
        fill(frame, target)
    pinned = np.zeros(sum(one.nbytes for one in alone), np.uint8)
    with Copiers(2) as copiers:
        pieces = copiers.pieces([(frame, one.nbytes) for frame, one in zip(frames, alone, strict=True)], 0)
        assert {piece.start for piece in copied(copiers, pieces, pinned)} == {piece.start for piece in pieces}
    np.testing.assert_array_equal(pinned, np.concatenate([one.ravel() for one in alone]))


def test_whole_frames_of_any_size_are_of_one_kind_and_rows_of_one_size_only() -> None:
    def kind(hw: tuple[int, int], mode: Any = "copied") -> object:
        box = Letterbox.fixed(hw, (64, 96))
        return filling.kind(Frame(np.zeros((*hw, 3), np.uint8), box, mode, pick=RowPick.of(box)))

    assert kind((50, 120)) == kind((40, 77))
    assert len({kind((50, 120)), kind((192, 90)), kind((256, 90)), kind((256, 90), "resized")}) == 4


@pytest.mark.parametrize("threads", [1, 3])
def test_after_an_error_nothing_is_written_any_more(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    busy: list[int] = []
    original = filling._copy

    def copy(piece: Any, pinned: Any) -> None:
        busy.append(1)
        try:
            if piece.start == 0:
                raise MemoryError("on purpose")
            original(piece, pinned)
        finally:
            busy.pop()

    monkeypatch.setattr(filling, "_copy", copy)
    monkeypatch.setattr(filling, "_PIECE_BYTES", 1)
    box = Letterbox.fixed((50, 120), (64, 96))
    frames = [Frame(np.zeros((50, 120, 3), np.uint8), box, "copied") for _ in range(12)]
    with Copiers(threads) as copiers:
        pieces = copiers.pieces([(frame, 18_000) for frame in frames], 0)
        with pytest.raises(MemoryError, match="on purpose"):
            copied(copiers, pieces, np.zeros(12 * 18_000, np.uint8))
        assert not busy


def test_a_thread_without_pieces_begins_the_next_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, others = threading.Event(), threading.Semaphore(0)
    original = filling._copy

    def copy(piece: Any, pinned: Any) -> None:
        if pinned is first and piece.start == 0:
            begun.set()
            for _ in range(4):  # the whole second batch
                others.acquire()
        original(piece, pinned)
        if pinned is second:
            others.release()

    monkeypatch.setattr(filling, "_copy", copy)
    monkeypatch.setattr(filling, "_PIECE_BYTES", 1)
    box = Letterbox.fixed((50, 120), (64, 96))
    frames = [Frame(np.full((50, 120, 3), n, np.uint8), box, "copied") for n in range(4)]
    first, second = np.zeros(4 * 18_000, np.uint8), np.zeros(4 * 18_000, np.uint8)
    with Copiers(2) as copiers, ThreadPoolExecutor(1) as pool:
        pieces = [Piece([frame], 18_000 * n, 18_000) for n, frame in enumerate(frames)]
        earlier = pool.submit(copied, copiers, pieces, first)
        begun.wait()
        assert len(copied(copiers, pieces, second)) == 4
        assert len(earlier.result()) == 4
    np.testing.assert_array_equal(first, second)
    assert first[-1] == 3


@pytest.mark.parametrize(("threads", "count"), [(1, 1), (2, 2), (3, 3), (4, 12), (8, 24)])
def test_few_threads_have_one_piece_each(threads: int, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filling, "_PIECE_BYTES", 1)
    box = Letterbox.fixed((50, 120), (64, 96))
    frames = [Frame(np.full((50, 120, 3), n, np.uint8), box, "copied") for n in range(24)]
    pinned = np.zeros(24 * 18_000, np.uint8)
    with Copiers(threads) as copiers:
        pieces = copiers.pieces([(frame, 18_000) for frame in frames], 0)
        assert len(pieces) == len(copied(copiers, pieces, pinned)) == count
    assert pinned[::18_000].tolist() == list(range(24))


def test_a_frame_that_is_larger_than_a_piece_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filling, "_LARGEST_BYTES", 100)
    box = Letterbox.fixed((50, 120), (64, 96))
    frames = [Frame(np.zeros((50, 120, 3), np.uint8), box, "copied") for _ in range(3)]
    with Copiers(1) as copiers:
        assert [len(piece.frames) for piece in copiers.pieces([(frame, 18_000) for frame in frames], 0)] == [1, 1, 1]
