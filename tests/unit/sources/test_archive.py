"""Images inside archives, through the whole source: names, what is skipped, what fails, and what is refused."""

from __future__ import annotations

import gzip
from pathlib import Path
from zipfile import ZIP_STORED

import pytest

from helpers.archives import PACK, encrypted, png, tar_header, tar_of, zip_of
from yoloship.demo import __file__ as demo
from yoloship.errors import InputError
from yoloship.sources import open_source
from yoloship.sources.archive import Archives
from yoloship.sources.unpacking import ArchiveLimits

IMAGES = {"in/b.png": png(2), "in/a.png": png(1)}
CODES = Path(demo).with_name("codes-yolov5n.pt")


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def saved(name: str, data: bytes) -> str:
    Path(name).write_bytes(data)
    return name


def given(*paths: str, limits: ArchiveLimits | None = None) -> list[tuple[str, bytes | str]]:
    """The name of each frame, and its bytes or its error."""
    with Archives.open(paths, limits=limits or ArchiveLimits()) as source:
        frames = list(source)
        assert source.count in {None, len(frames)}
    assert [frame.index for frame in frames] == list(range(len(frames)))
    return [(frame.name, str(frame.error) if isinstance(frame.image, type(None)) else frame.image) for frame in frames]  # type: ignore[misc]  # only bytes are left


def test_a_zip_archive_is_read_by_name() -> None:
    assert given(saved("a.zip", zip_of(IMAGES))) == [("a.zip/in/a.png", png(1)), ("a.zip/in/b.png", png(2))]


@pytest.mark.parametrize("suffix", PACK)
def test_a_tar_archive_is_read_in_its_order(suffix: str) -> None:
    name = saved(f"a.{suffix}", PACK[suffix](tar_of(IMAGES)))
    assert given(name) == [(f"{name}/in/b.png", png(2)), (f"{name}/in/a.png", png(1))]
    with open_source([name]) as source:
        assert type(source) is Archives
        assert source.count is None


def test_several_archives_follow_each_other() -> None:
    names = [saved("a.zip", zip_of(IMAGES)), saved("b.tar", tar_of(IMAGES))]
    assert [name for name, _ in given(*names, names[0])] == [
        "a.zip/in/a.png", "a.zip/in/b.png", "b.tar/in/b.png", "b.tar/in/a.png",
    ]  # fmt: skip


def test_the_source_may_be_read_again_and_left_early() -> None:
    with Archives.open([saved("a.zip", zip_of(IMAGES))]) as source:
        assert next(iter(source)).name == "a.zip/in/a.png"
        assert len(list(source)) == len(list(source)) == 2


def test_what_is_skipped_in_a_zip_archive_is_said_before() -> None:
    hidden = {"in/._a.png": b"", "__MACOSX/in/b.png": b"", "in/.x": b""}
    others = {"r.txt": b"", "clip.mp4": b"", "folder/": b"", "x/labels.txt": b""}
    with Archives.open([saved("a.zip", zip_of({**IMAGES, **hidden, **others}))]) as source:
        assert list(source.notes) == ["skipped in a.zip: 2 .txt, 2 hidden images, 1 .mp4"]
        assert source.count == 2


def test_paths_that_lead_out_of_the_archive_are_plain_names() -> None:
    hostile = {"../../a.png": png(1), "/etc/a.png": png(2), "C:\\a.png": png(3), "etc/a.png": png(4)}
    names = [name for name, _ in given(saved("a.zip", zip_of(hostile)))]
    assert sorted(names) == ["a.zip/a.png", "a.zip/a.png~2", "a.zip/etc/a.png", "a.zip/etc/a.png~2"]
    assert [path.name for path in Path().iterdir()] == ["a.zip"], "nothing was written"


def test_an_archive_inside_is_refused_by_name() -> None:
    inside = {"a.png": png(1), "b.zip": zip_of(IMAGES), "c.tar.gz": b""}
    for name in (saved("x.zip", zip_of(inside)), saved("x.tar", tar_of(inside))):
        assert given(name)[1:] == [
            (f"{name}/{one}", f"{name}/{one}: is an archive inside an archive; unpack it, and give it by itself")
            for one in ("b.zip", "c.tar.gz")
        ]


def test_a_damaged_image_does_not_end_the_archive() -> None:
    data = bytearray(zip_of(IMAGES, ZIP_STORED))
    data[data.find(png(1)) + 20] ^= 1
    (name, problem), (_, second) = given(saved("a.zip", bytes(data)))
    assert str(problem).startswith(f"{name}: is damaged: Bad CRC-32")
    assert second == png(2)


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.tar.bz2", "a.tar.xz"])
def test_of_an_archive_that_is_cut_short_all_that_is_whole_is_given_and_then_an_error(name: str) -> None:
    members = {f"{number}.png": png(number) * 300 for number in range(6)}
    whole = zip_of(members, ZIP_STORED) if name == "a.zip" else PACK[name[2:]](tar_of(members))
    for share in (0.3, 0.6, 0.9):
        frames = given(saved(name, whole[: int(len(whole) * share)]))
        assert [image for _, image in frames[:-1] if isinstance(image, bytes)] == [
            members[one.rpartition("/")[2]] for one, image in frames[:-1] if isinstance(image, bytes)
        ]
        assert frames[-1][0] == name
        assert "is cut short" in str(frames[-1][1])
        if name in {"a.zip", "a.tar"}:
            assert len(frames) >= 1 + int(5 * share)


def test_encrypted_archives_are_refused_and_single_images_named() -> None:
    with pytest.raises(InputError, match=r"^a.zip: is encrypted; unpack it with its password, and give the folder$"):
        Archives.open([saved("a.zip", encrypted(zip_of(IMAGES)))])
    mixed = bytearray(zip_of(IMAGES))
    mixed[mixed.find(b"PK\x03\x04") + 6] |= 1
    mixed[mixed.find(b"PK\x01\x02") + 8] |= 1
    (_, first), (name, second) = given(saved("b.zip", bytes(mixed)))
    assert first == png(1)
    assert second == f"{name}: is encrypted; unpack the archive with its password"


@pytest.mark.parametrize(
    ("name", "data", "problem"),
    [
        (
            "a.zip",
            zip_of({"r.txt": b""}),
            r"a.zip: has no images: expected files such as .jpg, .png or .webp, got 1 .txt",
        ),
        ("a.zip", zip_of({}), r"a.zip: has no images: .*an empty archive"),
        (
            "a.zip",
            zip_of({f"{n}.bmp": bytes(9_000_000) for n in range(8)}),
            "a.zip: is a zip bomb: got 72,000,000 bytes",
        ),
        ("a.zip", png(), "a.zip: is a PNG image"),
        ("a.7z", b"7z\xbc\xaf\x27\x1c" + bytes(100), "a.7z: is a 7-Zip archive, not an image; unpack it"),
        ("a.pt", CODES.read_bytes(), "a.pt: is a checkpoint, not an image; give the model first, then the images"),
    ],
)
def test_what_is_no_archive_of_images_is_refused_before_the_run(name: str, data: bytes, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        Archives.open([saved(name, data)])


@pytest.mark.parametrize("bad", ["no.zip", "."])
def test_what_cannot_be_opened_is_one_clear_line(bad: str) -> None:
    with pytest.raises(InputError, match=r"no such file|is a folder, not an archive"):
        Archives.open([bad])


def test_a_checkpoint_given_as_an_image_names_the_order_of_arguments() -> None:
    with pytest.raises(InputError, match="is a checkpoint, not an image; give the model first, then the images"):
        open_source([str(CODES)])


def test_what_is_only_found_out_during_the_run_is_the_last_error() -> None:
    assert given(saved("a.tar", tar_of({"r.txt": b""}))) == [
        ("a.tar", "a.tar: has no images: expected files such as .jpg, .png or .webp")
    ]
    assert given(saved("a.gz", gzip.compress(png()))) == [("a.gz", "a.gz: is not a tar archive, or is cut short")]
    frames = given(saved("b.tar", tar_of(IMAGES)[:2048] + tar_header(b"c.png", b"zzzzzzzzzzzz")), "a.tar")
    assert [name for name, _ in frames] == ["b.tar/in/b.png", "b.tar/in/a.png", "b.tar", "a.tar"]


def test_an_archive_that_vanishes_is_an_error_in_its_place() -> None:
    names = [saved("a.zip", zip_of(IMAGES)), saved("b.zip", zip_of(IMAGES))]
    with Archives.open(names) as source:
        Path("a.zip").unlink()
        frames = list(source)
    assert [frame.name for frame in frames] == ["a.zip", "b.zip/in/a.png", "b.zip/in/b.png"]
    assert str(frames[0].error) == "a.zip: no such file"
