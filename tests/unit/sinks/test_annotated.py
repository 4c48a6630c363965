"""Names of annotated images, and writing them."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from helpers.videos import Clip, read_back, write_clip
from yoloship.errors import ImageError, InputError, OutputError
from yoloship.images import read_image
from yoloship.results.detections import Detections
from yoloship.sinks import AnnotatedImages, DrawStyle, Entry, annotated_names, write_image
from yoloship.sinks.annotated import drawn
from yoloship.sources.video import VideoFiles
from yoloship.tracking.counting import LineCount
from yoloship.tracking.scene import Scene
from yoloship.tracking.shapes import Line, Placed, Rule

IMAGE = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)


def names(*inputs: str) -> list[str]:
    return list(annotated_names([Path(name) for name in inputs]))


def test_a_name_and_its_format_are_kept() -> None:
    assert names("x/a.jpg", "x/b.PNG", "c.webp") == ["a.jpg", "b.PNG", "c.webp"]


def test_formats_that_are_not_written_become_jpeg() -> None:
    assert names("a.gif", "b.avif", "c", "d.txt") == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]


def test_an_inputs_own_name_stays_its_own_wherever_it_stands() -> None:
    assert names("p.avif", "p.jpg") == ["p-2.jpg", "p.jpg"]
    assert names("p.gif", "p.avif", "p-2.jpg", "p.jpg") == ["p-3.jpg", "p-4.jpg", "p-2.jpg", "p.jpg"]


def test_inputs_of_one_name_in_different_folders_do_not_share_an_output() -> None:
    inputs = ["x/a.jpg", "y/a.jpg", "z/A.JPG", "a.gif", "a-2.jpg"]
    assert names(*inputs) == ["a.jpg", "a-3.jpg", "A-4.JPG", "a-5.jpg", "a-2.jpg"]


def test_names_that_some_file_systems_take_for_one_are_different() -> None:
    assert names("x/\u00e9.jpg", "y/e\u0301.jpg", "z/STRASSE.png", "stra\u00dfe.png") == [
        "\u00e9.jpg",
        "e\u0301-2.jpg",
        "STRASSE.png",
        "stra\u00dfe-2.png",
    ]


def test_names_stay_legal_when_something_is_added_to_them() -> None:
    long = "\N{CJK UNIFIED IDEOGRAPH-5199}" * 83  # 249 bytes
    found = names(f"x/{long}.jpg", f"y/{long}.jpg", f"{long}.avif", f"z/{long}.tiff")
    assert len({*found}) == 4
    assert all(len(os.fsencode(name)) <= 255 for name in found)
    assert found[0] == f"{long}.jpg"


def test_thousands_of_equal_names_are_numbered_without_counting_each_time() -> None:
    found = names(*(f"cam{index}/0001.jpg" for index in range(3000)))
    assert found[-1] == "0001-3000.jpg"


def test_annotated_images_make_their_folder_for_the_first_of_them(tmp_path: Path) -> None:
    annotated = AnnotatedImages(["a.png", "b.png"], None, tmp_path / "runs", overwrite=False)
    assert list(tmp_path.iterdir()) == []
    found = Detections.empty((20, 30))
    assert annotated.draw(Entry("b", found, index=1, image=IMAGE)) == tmp_path / "runs" / "predict" / "b.png"
    assert annotated.draw(Entry("a", found, index=0, image=IMAGE)) == tmp_path / "runs" / "predict" / "a.png"
    assert np.array_equal(read_image(tmp_path / "runs" / "predict" / "a.png"), IMAGE)


def test_what_failed_or_is_not_there_is_not_drawn(tmp_path: Path) -> None:
    annotated = AnnotatedImages(None, tmp_path / "out", overwrite=False)
    assert annotated.draw(Entry("a", None, InputError("no such file"))) is None
    assert annotated.draw(Entry("a", Detections.empty((20, 30)))) is None
    assert list(tmp_path.iterdir()) == []


def frames_of(path: Path, index: int) -> list[Entry]:
    """Entries of a run over a video, which is at this place in the run."""
    entries = []
    with VideoFiles.open([str(path)]) as source:
        for frame in source:
            assert isinstance(frame.image, np.ndarray)
            place = index + frame.index
            entries.append(Entry(frame.name, Detections.empty((64, 96)), None, None, place, frame.image, frame))
    return entries


def test_images_become_images_and_each_video_a_video_that_is_finished_when_the_next_one_begins(tmp_path: Path) -> None:
    videos = [write_clip(tmp_path / folder / "clip.mkv", Clip(times_ms=(0, 40, 90))) for folder in ("a", "b")]
    out = tmp_path / "out"
    with AnnotatedImages.open(out) as annotated:
        annotated.write(Entry("x/p.jpg", Detections.empty((20, 30)), index=0, image=IMAGE, stem="p"))
        paths = [annotated.draw(entry) for entry in frames_of(videos[0], 1)]
        assert paths == [out / "clip.mp4"] * 3
        assert not (out / "clip.mp4").exists()
        assert annotated.draw(frames_of(videos[1], 4)[0]) == out / "clip-2.mp4"
        assert len(read_back(out / "clip.mp4").times) == 3
        annotated.write(Entry("x/q.jpg", Detections.empty((20, 30)), index=7, image=IMAGE, stem="q"))
        assert len(read_back(out / "clip-2.mp4").times) == 1
    assert sorted(path.name for path in out.iterdir() if not path.name.startswith(".")) == [
        "clip-2.mp4", "clip.mp4", "p.jpg", "q.jpg",
    ]  # fmt: skip
    assert annotated.is_finished


def test_an_interruption_leaves_the_video_with_the_frames_so_far_and_their_sound(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", Clip(times_ms=range(0, 2000, 40), audio="aac"))
    with pytest.raises(KeyboardInterrupt), AnnotatedImages.open(tmp_path / "out") as annotated:
        for entry in frames_of(path, 0)[:20]:
            annotated.write(entry)
        raise KeyboardInterrupt
    found, whole = read_back(tmp_path / "out" / "clip.mp4"), read_back(path)
    assert found.times == whole.times[:20]
    assert found.audio == whole.audio[: len(found.audio)]
    assert 0.7 < found.audio[-1][0] < 0.8


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff", ".TIF"])
def test_a_lossless_image_is_written_exactly(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"照片{suffix}"
    write_image(IMAGE, path, overwrite=False)
    assert np.array_equal(read_image(path), IMAGE)


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".webp"])
def test_a_lossy_image_is_written_in_its_format(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    write_image(IMAGE, path, overwrite=False)
    assert read_image(path).shape == IMAGE.shape


def test_a_full_disk_leaves_nothing_behind_and_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError) as caught:
        write_image(IMAGE, tmp_path / "a.png", overwrite=False)
    assert str(caught.value) == f"{tmp_path / 'a.png'}: cannot be written: No space left on device; free some space"
    assert list(tmp_path.iterdir()) == []


def test_a_image_that_its_format_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be encoded"):
        write_image(np.zeros((1, 70_000, 3), np.uint8), tmp_path / "a.jpg", overwrite=False)
    assert list(tmp_path.iterdir()) == []


def test_lines_are_drawn_below_boxes_and_as_wide_as_them() -> None:
    image = np.full((300, 400, 3), 90, np.uint8)
    places = np.array([[100, 100, 300, 200]], np.float32)
    found = Detections(places, np.array([0.9], np.float32), np.array([0], np.int32), ("cat",), (300, 400))
    line = Placed.of(Line("door", (200, 50), (200, 250), Rule("pixels")), (300, 400))
    scene = Scene({}, {"door": (line, LineCount({}, {}))}, (300, 400))
    widths = []
    for line_px in (2, 6):
        style = DrawStyle(hide_labels=True, line_width_px=line_px)
        both = drawn(Entry("a", found, image=image, scene=scene), style)
        boxes = drawn(Entry("a", found, image=image), style)
        assert both is not None
        assert boxes is not None
        np.testing.assert_array_equal(both[199:202, 150:250], boxes[199:202, 150:250])
        widths.append(np.count_nonzero((both != boxes).any(axis=2)[230, 185:216]))
    assert widths[1] >= widths[0] + 4


def test_nothing_is_drawn_for_an_image_that_failed() -> None:
    assert drawn(Entry("a", None, ImageError("is damaged"), image=IMAGE), DrawStyle()) is None
