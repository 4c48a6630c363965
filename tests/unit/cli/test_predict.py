"""`yoloship detect`: what it prints, writes and refuses."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from helpers.cli import run
from helpers.images import heif, sized
from helpers.models import constant_raw, empty_rows, info
from helpers.shared import TRAINED, require
from yoloship.checkpoint import read_checkpoint
from yoloship.graph import GraphConfig, build_graph, graph_bytes
from yoloship.images import read_image
from yoloship.model import METADATA_KEY, NmsConfig

HW = (64, 96)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model that finds the same two objects in every image of its own size: a cat and a däckel."""
    raw = empty_rows(HW, 7)
    raw[0, 27] = (30, 20, 20, 10, 0.9, 1.0, 0.0)
    raw[0, 67] = (60, 40, 30, 20, 0.8, 0.0, 0.75)
    raw[0, 13] = (10, 10, 4, 4, 0.1, 1.0, 0.0)
    path = tmp_path / "models" / "two.onnx"
    path.parent.mkdir()
    path.write_bytes(constant_raw(raw, HW, {"names": "{0: 'cat', 1: 'däckel'}", "stride": "32"}).SerializeToString())
    return path


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def image(path: str | Path, value: int = 90) -> Path:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    done, data = cv2.imencode(path.suffix, np.full((*HW, 3), value, np.uint8))
    assert done
    path.write_bytes(data.tobytes())
    return path


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_one_image_gives_a_table_and_an_annotated_image(model: Path, work: Path) -> None:
    image("a.png")
    ran = run("detect", model, "a.png")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == (
        "a.png  96×64\n"
        "class   score    x1    y1    x2    y2\n"
        "cat     0.900  20.0  15.0  40.0  25.0\n"
        "däckel  0.600  45.0  30.0  75.0  50.0\n"
        f"annotated: {Path('runs/detect/a.png')}\n"
    )
    assert files(work) == ["a.png", "runs/detect/a.png"]
    assert (read_image("runs/detect/a.png") != 90).any()


def test_every_run_without_a_folder_gets_one_of_its_own(model: Path, work: Path) -> None:
    image("a.png")
    for _ in range(3):
        assert run("detect", model, "a.png").code == 0
    assert files(work / "runs") == ["detect-2/a.png", "detect-3/a.png", "detect/a.png"]


def test_a_folder_gives_a_row_an_image_and_a_sum(model: Path) -> None:
    image("in/b.png")
    image("in/a.jpg")
    ran = run("detect", model, "in", "-o", "out")
    assert ran.code == 0
    assert ran.out == (
        "image     size   objects  found\n"
        "in/a.jpg  96×64        2  1 cat, 1 däckel\n"
        "in/b.png  96×64        2  1 cat, 1 däckel\n"
        "2 images, 4 objects: 2 cat, 2 däckel\n"
        "annotated: out\n"
    )
    assert files(Path("out")) == ["a.jpg", "b.png"]


def test_the_json_has_the_documented_form(model: Path, work: Path) -> None:
    image("z.png")
    image("a.png")
    ran = run("detect", model, "z.png", "a.png", "--no-draw", "--json", "found.json")
    assert ran.code == 0
    assert files(work) == ["a.png", "found.json", "z.png"]
    document = json.loads(Path("found.json").read_bytes())
    assert [entry["input"] for entry in document] == ["z.png", "a.png"]
    assert document[0] == {
        "input": "z.png",
        "index": 0,
        "width": 96,
        "height": 64,
        "detections": [
            {"class_id": 0, "class_name": "cat", "score": 0.9, "box_xyxy": [20.0, 15.0, 40.0, 25.0]},
            {"class_id": 1, "class_name": "däckel", "score": 0.6, "box_xyxy": [45.0, 30.0, 75.0, 50.0]},
        ],
    }


def test_json_on_stdout_is_all_that_stands_there(model: Path) -> None:
    image("a.png")
    ran = run("detect", model, "a.png", "--json", "-", "-o", "out")
    assert ran.code == 0
    assert len(json.loads(ran.out)[0]["detections"]) == 2
    assert files(Path("out")) == ["a.png"]


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["--conf", "0.7"], ["cat"]),
        (["--conf", "0.05"], ["cat", "däckel", "cat"]),
        (["--classes", "däckel"], ["däckel"]),
        (["--classes", "0"], ["cat"]),
        (["--classes", "1, cat"], ["cat", "däckel"]),
        (["--max-det", "1"], ["cat"]),
        (["--imgsz", "64x96", "--square"], ["cat", "däckel"]),
        (["--conf", "0.05", "--iou", "0"], ["cat", "däckel", "cat"]),
    ],
)
def test_options_decide_what_is_kept(model: Path, options: list[str], names: list[str]) -> None:
    image("a.png")
    ran = run("detect", model, "a.png", "--no-draw", "--json", "-", *options)
    assert [found["class_name"] for found in json.loads(ran.out)[0]["detections"]] == names


def test_nothing_found_is_said_in_words(model: Path) -> None:
    image("a.png")
    assert run("detect", model, "a.png", "--no-draw", "--conf", "0.95").out == "a.png  96×64: nothing found\n"


def test_images_of_one_name_do_not_overwrite_each_other(model: Path) -> None:
    image("x/a.png", 40)
    image("y/a.png", 200)
    assert run("detect", model, "x", "y", "-o", "out").code == 0
    assert files(Path("out")) == ["a-2.png", "a.png"]
    assert read_image("out/a.png")[0, 0, 0] == 40
    assert read_image("out/a-2.png")[0, 0, 0] == 200


def test_an_unreadable_image_is_reported_and_the_rest_is_done(model: Path) -> None:
    image("in/a.png")
    Path("in/b.png").touch()
    image("in/c.png")
    ran = run("detect", model, "in", "no.jpg", "-o", "out", "--json", "found.json")
    assert ran.code == 1
    assert ran.err.splitlines() == [
        f"error: {Path('in/b.png')}: is empty (0 bytes)",
        "error: no.jpg: no such file",
        "error: 2 of 4 images failed",
    ]
    assert "2 images, 4 objects" in ran.out
    assert files(Path("out")) == ["a.png", "c.png"]
    entries = json.loads(Path("found.json").read_bytes())
    assert [entry["input"] for entry in entries] == ["in/a.png", "in/b.png", "in/c.png", "no.jpg"]
    assert [entry.get("annotated") for entry in entries] == ["out/a.png", None, "out/c.png", None]
    assert [entry.get("error") for entry in entries] == [
        None,
        "in/b.png: is empty (0 bytes)",
        None,
        "no.jpg: no such file",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "a.jpg: no such file"),
        (b"", "a.jpg: is empty (0 bytes)"),
        (b"hello\n", "a.jpg: is not an image: expected JPEG, PNG"),
        (b"\xff\xd8\xff\xe0", "a.jpg: JPEG is damaged or cut short: it has no end"),
    ],
)
def test_a_bad_image_is_one_clear_line(model: Path, work: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        Path("a.jpg").write_bytes(content)
    ran = run("detect", model, "a.jpg", "-o", "out", "--json", "found.json")
    assert ran.error.startswith(message)
    assert not (work / "out").exists()
    (entry,) = json.loads((work / "found.json").read_bytes())
    assert (entry["input"], entry["error"]) == ("a.jpg", ran.error)


def test_a_image_over_the_limit_is_one_clear_line(model: Path) -> None:
    Path("a.bmp").write_bytes(
        b"BM" + bytes(12) + (40).to_bytes(4, "little") + (20_000).to_bytes(4, "little") * 2 + bytes(28)
    )
    assert run("detect", model, "a.bmp", "--no-draw").error == (
        "a.bmp: image too large: expected at most 200 megapixels of BMP and 65535 a side, got 20000×20000 (400 "
        "megapixels); "
        "make it smaller, or cut it into tiles"
    )


def test_a_folder_without_images_is_one_clear_line(model: Path) -> None:
    Path("in").mkdir()
    assert run("detect", model, "in").error == (
        "in: has no images: expected files such as .jpg, .png or .webp, got an empty folder"
    )


def test_a_pattern_without_matches_is_one_clear_line(model: Path) -> None:
    assert run("detect", model, "*.jpg").error.startswith("*.jpg: matches no images")


def test_an_annotated_image_that_exists_is_kept_unless_told_otherwise(model: Path) -> None:
    image("a.png")
    existing = Path("out/a.png")
    existing.parent.mkdir()
    existing.write_bytes(b"mine")
    ran = run("detect", model, "a.png", "-o", "out", "--json", "found.json")
    assert ran.error == f"{existing}: already exists; give another name, or --overwrite"
    assert existing.read_bytes() == b"mine"
    assert not Path("found.json").exists()
    assert run("detect", model, "a.png", "-o", "out", "--overwrite").code == 0
    assert read_image(existing).shape == (*HW, 3)


def test_a_json_file_that_exists_is_kept_unless_told_otherwise(model: Path) -> None:
    image("a.png")
    Path("found.json").write_text("mine")
    ran = run("detect", model, "a.png", "-o", "out", "--json", "found.json")
    assert ran.error == "found.json: already exists; give another name, or --overwrite"
    assert Path("found.json").read_text() == "mine"
    assert not Path("out").exists()
    assert run("detect", model, "a.png", "--no-draw", "--json", "found.json", "--overwrite").code == 0
    assert json.loads(Path("found.json").read_text())


def test_an_input_is_never_overwritten(model: Path) -> None:
    before = image("a.png").read_bytes()
    ran = run("detect", model, "a.png", "-o", ".", "--overwrite")
    assert "would replace an input" in ran.error
    assert Path("a.png").read_bytes() == before


@pytest.mark.parametrize("lines", ["in/a.jpg", "in", "in/*.jpg"])
@pytest.mark.parametrize(
    "output", [("-o", "in"), ("--no-draw", "--json", "list.txt"), ("--no-draw", "--csv", "in/a.jpg")]
)
def test_nothing_that_a_list_names_is_overwritten_nor_the_list(
    model: Path, lines: str, output: tuple[str, ...]
) -> None:
    Path("in").mkdir()
    before = image("in/a.jpg").read_bytes()
    Path("list.txt").write_text(lines)
    ran = run("detect", model, "list.txt", *output, "--overwrite")
    assert ran.code == 1
    assert "would replace an input" in ran.err
    assert Path("in/a.jpg").read_bytes() == before
    assert len(Path("list.txt").read_text()) < 10


def test_no_crop_replaces_an_input(model: Path) -> None:
    Path("cat").mkdir()
    image("cat/a.png")
    before = image("cat/a-1.jpg").read_bytes()
    ran = run("detect", model, "cat", "--no-draw", "--crops", ".", "--overwrite")
    assert "a-1.jpg: would replace an input" in ran.err
    assert Path("cat/a-1.jpg").read_bytes() == before


def test_a_full_disk_is_one_clear_line_and_leaves_nothing_half_written(
    model: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    image("a.png")
    monkeypatch.setattr(os, "fsync", full)
    ran = run("detect", model, "a.png", "-o", "out")
    assert ran.error == f"{Path('out/a.png')}: cannot be written: No space left on device; free some space"
    assert files(work) == ["a.png"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "m.onnx: no such file"),
        (b"", "m.onnx: is empty"),
        (bytes(range(256)) * 8, "m.onnx: is not a valid ONNX file"),
        (b"PK\x03\x04" + bytes(400), "m.onnx: "),
        (b"\x80\x02cposix\nsystem\nX\x02\x00\x00\x00id\x85R.", "m.onnx: "),
    ],
)
def test_a_bad_model_is_one_clear_line(content: bytes | None, message: str) -> None:
    image("a.png")
    if content is not None:
        Path("m.onnx").write_bytes(content)
    assert run("detect", "m.onnx", "a.png").error.startswith(message)
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("predict", "bad.engine", "a.png"),
        ("predict", "bad.engine", "a.png", "--device", "cuda"),
        ("predict", "bad.engine", "a.png", "--runtime", "openvino"),
        ("val", "bad.engine", "--data", "data.yaml"),
        ("verify", "bad.engine", "bad.engine", "--images", "a.png"),
        ("bench", "bad.engine"),
        ("build", "bad.engine", "-o", "other.engine"),
        ("export", "bad.engine"),
        ("info", "bad.engine"),
        ("inspect", "bad.engine", "--times"),
        ("triton", "bad.engine", "-o", "repository"),
        ("triton", "bad.engine", "-o", "repository", "--backend", "tensorrt"),
    ],
    ids=" ".join,
)
def test_random_bytes_named_as_an_engine_are_not_called_a_damaged_onnx_file(arguments: tuple[str, ...]) -> None:
    image("a.png")
    Path("bad.engine").write_bytes(bytes(range(255, 127, -1)) * 8)
    assert run(*arguments).error == (
        "bad.engine: is not a TensorRT engine: got a file that begins with "
        r"b'\xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8'; copy it again, or build it again with 'yoloship build'"
    )


def test_a_class_that_the_model_does_not_have_is_one_clear_line(model: Path) -> None:
    image("a.png")
    assert run("detect", model, "a.png", "--classes", "dog").error == (
        "dog: no such class: expected one of cat, däckel, or an id from 0 to 1"
    )


def test_another_size_than_the_graphs_own_is_one_clear_line(model: Path) -> None:
    image("a.png")
    assert (
        "the graph has a fixed size: expected 64×96, got 320×320"
        in run("detect", model, "a.png", "--imgsz", "320").error
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["detect"], "Usage: "),
        (["detect", "m.onnx"], "Missing argument 'SOURCE"),
        (["detect", "m.onnx", "a.png", "--conf", "1.5"], "--conf"),
        (["detect", "m.onnx", "a.png", "--conf", "high"], "--conf"),
        (["detect", "m.onnx", "a.png", "--iou", "-1"], "--iou"),
        (["detect", "m.onnx", "a.png", "--max-det", "0"], "--max-det"),
        (["detect", "m.onnx", "a.png", "--imgsz", "big"], "'big' is not a size: give 640, or HxW such as 384x640"),
        (["detect", "m.onnx", "a.png", "--imgsz", "0"], "'0' is not a size"),
        (["detect", "m.onnx", "a.png", "--imgsz", "dynamic"], "'dynamic' is not a size"),
        (["detect", "m.onnx", "a.png", "--classes", " , "], "no class given"),
        (["detect", "m.onnx", "a.png", "--no-draw", "-o", "out"], "-o is for annotated images"),
        (["detect", "m.onnx", "a.png", "--colour"], "No such option"),
        (["explode"], "No such command 'explode'"),
    ],
)
def test_wrong_usage_exits_with_2_and_says_why(arguments: list[str], message: str) -> None:
    ran = run(*arguments)
    assert ran.code == 2
    assert message in ran.out + ran.err


def test_an_interrupt_ends_quietly_with_130_and_leaves_nothing_half_written(
    model: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(descriptor: int) -> None:
        raise KeyboardInterrupt

    image("a.png")
    monkeypatch.setattr(os, "fsync", interrupted)
    ran = run("detect", model, "a.png", "-o", "out")
    assert (ran.code, ran.out, ran.err) == (130, "", "interrupted\n")
    assert files(work) == ["a.png"]


def test_a_reader_that_goes_away_gets_no_traceback(model: Path) -> None:
    for index in range(40):
        image(f"in/{index}.png")
    process = subprocess.Popen(
        [sys.executable, "-m", "yoloship", "detect", model, "in", "--no-draw", "--json", "-"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() in (0, 1)


def test_detect_on_an_onnx_file_does_not_load_onnx(model: Path) -> None:
    image("a.png")
    program = (
        "import sys; sys.argv = ['yoloship', *sys.argv[1:]]\n"
        "from yoloship.cli import main\n"
        "try:\n    main()\nfinally:\n    print('loaded', sorted({m.partition('.')[0] for m in sys.modules}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "detect", model, "a.png"],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = done.stdout.partition("loaded ")[2]
    assert "'onnxruntime'" in loaded
    for heavy in ("onnx", "PIL", "pydantic", "torch"):
        assert f"'{heavy}'" not in loaded


def test_that_a_graph_did_not_look_at_all_candidates_is_said_once(tmp_path: Path) -> None:
    checkpoint = require(TRAINED / "ppe-yolov5n.pt")
    limits = NmsConfig(score_threshold=0.0, iou_threshold=0.1, max_detections=300, candidates=300)
    graph = build_graph(read_checkpoint(checkpoint), GraphConfig((192, 192), output_form="nms", nms=limits))
    Path("cut.onnx").write_bytes(graph_bytes(graph))
    for name in ("a.png", "b.png"):
        image(name)
    ran = run("detect", "cut.onnx", "a.png", "b.png", "--conf", "0", "--iou", "0.1", "--no-draw", "--json", "r.json")
    assert ran.code == 0, ran.err
    assert ran.err.count("boxes may be missing") == 1
    assert "in 2 of 2 images: they have more candidates than the 300 that the graph looks at; export it with" in ran.err
    assert [entry["complete"] for entry in json.loads(Path("r.json").read_text())] == [False, False]
    enough = run("detect", "cut.onnx", "a.png", "--conf", "0.9", "--iou", "0.1", "--no-draw")
    assert (enough.code, "boxes may be missing" in enough.err) == (0, False)


def test_a_json_file_beside_a_model_changes_nothing(model: Path) -> None:
    image("a.png")
    found = model.with_name(f"{model.name}.json")
    for _ in range(2):
        assert run("detect", model, "a.png", "--no-draw", "--json", found, "--overwrite").code == 0
    assert json.loads(found.read_bytes())[0]["input"] == "a.png"


def test_the_suffix_of_a_model_changes_nothing(model: Path, work: Path) -> None:
    image("a.png")
    (work / "best.engine").write_bytes(model.read_bytes())
    assert run("detect", "best.engine", "a.png", "--no-draw").code == 0


def test_what_a_folder_leaves_out_is_said_in_one_line(model: Path, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yoloship.sources.finding.find_spec", lambda _: None)
    image("photos/a.png")
    image("photos/below/b.png")
    for name in ("1.heic", "2.heic", "notes.txt"):
        (work / "photos" / name).touch()
    ran = run("detect", model, "photos/", "--no-draw")
    assert ran.code == 0
    assert ran.err == ("skipped in photos/: 2 .heic (pip install 'yoloship[heic]'), 1 folder (--recursive), 1 .txt\n")


def test_recursive_takes_folders_below(model: Path) -> None:
    image("photos/a10.png")
    image("photos/a9.png")
    image("photos/below/b.png")
    ran = run("detect", model, "photos", "--recursive", "--no-draw", "--json", "-")
    assert ran.code == 0
    names = [Path(entry["input"]).as_posix() for entry in json.loads(ran.out)]
    assert names == ["photos/a9.png", "photos/a10.png", "photos/below/b.png"]


def test_a_heic_image_that_is_named_says_what_to_install(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    image("a.png")
    Path("b.heic").write_bytes(heif([sized(20, 10)]))
    ran = run("detect", model, "a.png", "b.heic", "--no-draw")
    assert ran.code == 1
    assert "error: b.heic: HEIC images need pillow-heif; pip install 'yoloship[heic]'" in ran.err


def test_labels_scores_and_line_width_are_the_users_choice(model: Path) -> None:
    image("a.png")
    variants = {"full": (), "names": ("--hide-conf",), "boxes": ("--hide-labels",), "thick": ("--line-width", "7")}
    drawn = {}
    for name, options in variants.items():
        assert run("detect", model, "a.png", "-o", name, *options).code == 0
        drawn[name] = read_image(f"{name}/a.png").tobytes()
    assert len(set(drawn.values())) == len(variants)


def test_options_of_drawing_contradict_no_draw(model: Path) -> None:
    image("a.png")
    ran = run("detect", model, "a.png", "--no-draw", "--hide-conf")
    assert ran.code == 2
    assert "--hide-labels, --hide-conf and --line-width do not go with --no-draw" in ran.err


def five_channels() -> bytes:
    """A model of ours whose record says five channels."""
    raw = np.full((1, 378, 8), 0.1, np.float32)
    record = info("raw", input_form="float", channels=5, input_hw=HW)
    made = constant_raw(raw, HW, {METADATA_KEY: record.to_json()})
    made.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 5
    return bytes(made.SerializeToString())


def test_a_model_that_files_cannot_feed_is_one_clear_line(work: Path) -> None:
    path = work / "five.onnx"
    path.write_bytes(five_channels())
    image("a.png")
    ran = run("detect", path, "a.png", "--no-draw")
    assert ran.code == 1
    assert "the model takes images of 5 channels, which image files do not have" in ran.err


def test_quiet_prints_errors_and_json_only(model: Path, work: Path) -> None:
    image("a.png")
    ran = run("detect", model, "a.png", "-o", "out", "--quiet")
    assert (ran.code, ran.out, ran.err) == (0, "", "")
    assert files(work / "out") == ["a.png"]
    ran = run("detect", model, "a.png", "no.png", "-q", "--no-draw", "--json", "-")
    assert [entry["input"] for entry in json.loads(ran.out)] == ["a.png", "no.png"]
    assert ran.err.splitlines() == ["error: no.png: no such file", "error: 1 of 2 images failed"]


def test_agnostic_nms_lets_classes_drop_each_other(tmp_path: Path) -> None:
    raw = empty_rows(HW, 7)
    raw[0, 27] = (30, 20, 20, 10, 0.9, 1.0, 0.0)
    raw[0, 123] = (30, 20, 20, 10, 0.9, 0.0, 0.9)  # the same cell, by its second anchor
    path = tmp_path / "one.onnx"
    path.write_bytes(constant_raw(raw, HW, {"names": "['cat', 'dog']", "stride": "32"}).SerializeToString())
    image("a.png")
    both = run("detect", path, "a.png", "--no-draw", "--json", "-")
    assert [entry["class_name"] for entry in json.loads(both.out)[0]["detections"]] == ["cat", "dog"]
    one = run("detect", path, "a.png", "--no-draw", "--json", "-", "--agnostic-nms")
    assert [entry["class_name"] for entry in json.loads(one.out)[0]["detections"]] == ["cat"]


def test_a_width_of_lines_that_cannot_be_drawn_is_wrong_usage() -> None:
    from importlib import import_module

    from yoloship.results.drawing import MAX_LINE_PX

    assert import_module("yoloship.cli.predict").MAX_LINE_PX == MAX_LINE_PX
    ran = run("detect", "a.pt", "b.jpg", "--line-width", str(MAX_LINE_PX + 1))
    assert ran.code == 2
    assert "--line-width" in ran.err


def test_a_name_of_the_command_refuses_models_of_other_tasks(model: Path) -> None:
    image("a.png")
    assert run("predict", model, "a.png", "--no-draw").code == 0
    assert run("detect", model, "a.png", "--no-draw").code == 0
    assert not Path("runs").exists()
    assert run("predict", model, "a.png").code == 0
    assert Path("runs/predict/a.png").is_file()


def test_the_examples_of_the_help_have_the_name_that_was_called() -> None:
    assert "yoloship predict best.pt photo.jpg" in run("predict", "--help").out
    helped = run("detect", "--help").out
    assert "yoloship detect best.pt photo.jpg" in helped
    assert "yoloship predict" not in helped.partition("Examples:")[2]


def test_the_examples_of_the_help_have_only_options_that_the_help_lists() -> None:
    helped = run("classify", "--help").out.partition("Examples:")
    options = set(re.findall(r"--[a-z-]+", helped[2]))
    assert "--csv" in options
    assert options <= set(re.findall(r"--[a-z-]+", helped[0]))
