from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import yoloship
from helpers import forge
from helpers.models import ANCHORS, STRIDES, constant_raw, random_heads, scale_and_shift
from helpers.shared import CHECKPOINTS, GENERATED, PHOTOS, TRAINED, require
from yoloship.checkpoint import read_checkpoint
from yoloship.cuda.device import probe
from yoloship.detect.options import DetectOptions
from yoloship.errors import CheckpointError, CudaError, DependencyError, InputError, SessionError
from yoloship.graph import GraphConfig, build_graph, graph_bytes
from yoloship.models.loading import cached_graph, load
from yoloship.runtime.onnxruntime.cpu import OnnxRuntimeSession
from yoloship.runtime.session import TunedFor
from yoloship.tasks.decode import heads_to_raw

DEMO = Path(yoloship.__file__).with_name("demo") / "codes-yolov5n.pt"
FAINT = DetectOptions(score_threshold=0.0005)
"""The weights of the generated checkpoints are random: nothing that they find is likely."""
IMAGE = np.random.default_rng(5).integers(0, 256, (50, 120, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("YOLOSHIP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def checkpoint() -> Path:
    return require(GENERATED / "v6.2-yolov5n.pt")


def standard_onnx() -> bytes:
    raw = heads_to_raw(random_heads(0, (64, 96)), STRIDES, ANCHORS)
    data: bytes = constant_raw(raw, (64, 96), {"names": "['a', 'b', 'c']"}).SerializeToString()
    return data


def test_an_onnx_file_is_told_by_its_content_not_its_name(tmp_path: Path) -> None:
    path = tmp_path / "misnamed.pt"
    path.write_bytes(standard_onnx())
    for source in (path, str(path), standard_onnx()):
        with load(source) as detector:
            assert detector.input_hw == (64, 96)
            assert detector.class_names == ("a", "b", "c")


def test_a_checkpoint_is_told_by_its_content_not_its_name(tmp_path: Path, checkpoint: Path) -> None:
    path = tmp_path / "misnamed.onnx"
    path.write_bytes(checkpoint.read_bytes())
    with load(path, imgsz=64, options=FAINT) as detector, load(path.read_bytes(), imgsz=64, options=FAINT) as other:
        assert detector.input_hw == (64, 64)
        assert detector.info.input_form == "image"
        assert detector.info.output_form == "heads"
        assert len(detector(IMAGE))
        assert detector(IMAGE) == other(IMAGE)


def test_the_older_container_is_told_by_its_content_too(tmp_path: Path) -> None:
    older = require(GENERATED / "v7-yolov5n-legacyformat.pt")
    path = tmp_path / "misnamed.bin"
    path.write_bytes(older.read_bytes())
    with load(path, imgsz=64, options=FAINT) as detector, load(older.read_bytes(), imgsz=64, options=FAINT) as other:
        assert len(detector(IMAGE))
        assert detector(IMAGE) == other(IMAGE)


def test_a_broken_checkpoint_in_the_older_container_is_judged_as_a_checkpoint(tmp_path: Path) -> None:
    data = forge.legacy_bytes(forge.end(forge.call("os.system", forge.text("true"))), {})
    (tmp_path / "best.pt").write_bytes(data)
    for source in (tmp_path / "best.pt", data):
        with pytest.raises(CheckpointError, match=r"os\.system"):
            load(source)


@pytest.mark.parametrize(("device", "batch"), [("cpu", 1), ("cuda", 0), ("cuda:1", 0)])
def test_a_graph_for_a_gpu_takes_any_batch_and_one_for_the_cpu_one_image(
    device: str, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs: list[bytes] = []

    def keep(graph: bytes, *_: object, **__: object) -> None:
        graphs.append(graph)
        raise SessionError("that is all")

    monkeypatch.setattr("yoloship.models.gpu_loading.load_on_gpu", keep)
    monkeypatch.setattr(OnnxRuntimeSession, "open", keep)
    with pytest.raises(SessionError, match="that is all"):
        load(DEMO, device=device)
    shape = onnx.load_from_string(graphs[0]).graph.input[0].type.tensor_type.shape
    assert shape.dim[0].dim_value == batch
    assert bool(shape.dim[0].dim_param) == (batch == 0)


def test_a_checkpoint_that_changes_while_it_is_read_is_not_kept_under_the_name_of_the_other(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "best.pt"
    path.write_bytes(b"PK\x03\x04 what the training saved before")

    def replaced(*arguments: Any) -> bytes:
        path.write_bytes(DEMO.read_bytes())
        return cached_graph(*arguments)

    monkeypatch.setattr("yoloship.models.loading.cached_graph", replaced)
    with pytest.raises(SessionError, match=r"best\.pt: was changed while it was being read; try again"):
        load(path)
    assert list(cache.rglob("*.onnx")) == []


def test_rect_of_a_checkpoint_pads_to_the_stride_only(checkpoint: Path) -> None:
    with load(checkpoint, imgsz=128, shape_mode="rect") as detector:
        assert detector.letterbox((50, 120)).input_hw == (64, 128)
        assert detector(IMAGE).image_hw == (50, 120)


def test_a_second_load_builds_nothing(checkpoint: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with load(checkpoint, imgsz=64, options=FAINT) as detector:
        want = detector(IMAGE)
        assert len(want)
    assert len(list(cache.rglob("*.onnx"))) == 1
    monkeypatch.setattr("yoloship.graph.build_graph", None)
    with load(checkpoint, imgsz=64, options=FAINT) as detector:
        assert detector(IMAGE) == want


def test_both_tunings_give_the_same_boxes(checkpoint: Path) -> None:
    with (
        load(checkpoint, imgsz=64, options=FAINT) as one,
        load(checkpoint, imgsz=64, options=FAINT, tuned_for="throughput") as other,
    ):
        for outcome in other.stream([IMAGE, IMAGE[:, ::-1]]):
            want = one(outcome.source)
            assert len(want)
            np.testing.assert_allclose(outcome.unwrap().boxes_xyxy, want.boxes_xyxy, atol=1e-3)
            np.testing.assert_allclose(outcome.unwrap().scores, want.scores, atol=1e-6)


@pytest.mark.parametrize(
    ("tuned_for", "cores", "runs", "threads"),
    [
        *(("throughput", *numbers) for numbers in ((1, 1, 1), (2, 2, 1), (16, 16, 1), (40, 16, 2), (64, 16, 4))),
        *(("latency", cores, 1, cores) for cores in (1, 2, 63)),
        ("latency", 64, 1, None),  # the machine's: the runtime counts them itself
    ],
)
def test_the_cores_are_shared_out(
    tuned_for: TunedFor, cores: int, runs: int, threads: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[int | None] = []
    real = OnnxRuntimeSession.open

    def open_(model: bytes, *, intra_op_threads: int | None = None, **rest: Any) -> OnnxRuntimeSession:
        opened.append(intra_op_threads)
        return real(model, intra_op_threads=1, **rest)

    monkeypatch.setattr(OnnxRuntimeSession, "open", open_)
    monkeypatch.setattr("yoloship.runtime.onnxruntime.cpu.usable_cores", lambda: cores)
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    with load(standard_onnx(), tuned_for=tuned_for) as detector:
        session: Any = detector.session
        assert session.concurrent_runs == runs
        assert detector._pipeline.parallel_runs == runs
    assert opened == [threads]


def test_sizes_of_numpy_and_other_bytes_are_taken(checkpoint: Path) -> None:
    side: Any = np.int64(64)
    with load(checkpoint, imgsz=side) as detector:
        assert detector.input_hw == (64, 64)
    for data in (bytearray(standard_onnx()), memoryview(standard_onnx())):
        given: Any = data
        load(given).close()
    nothing: Any = 5
    with pytest.raises(InputError, match="model: is not a model: expected a file's name, its bytes"):
        load(nothing)


def test_many_threads_get_what_one_gets(checkpoint: Path) -> None:
    rng = np.random.default_rng(1)
    images = [rng.integers(0, 256, (rng.integers(20, 200), 99, 3), dtype=np.uint8) for _ in range(12)]
    with load(checkpoint, imgsz=64, options=FAINT) as detector, ThreadPoolExecutor(6) as pool:
        one_by_one = [detector(image) for image in images]
        assert all(map(len, one_by_one))
        assert list(pool.map(detector, images * 4)) == one_by_one * 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"device": "gpu"}, "no such device: expected cpu, cuda, cuda:N, cuda:N,cuda:M or cuda:all, got 'gpu'"),
        (
            {"device": "cuda:one"},
            "no such device: expected cpu, cuda, cuda:N, cuda:N,cuda:M or cuda:all, got 'cuda:one'",
        ),
        ({"decode": "fast"}, "decode: no such choice: expected auto or gpu or cpu, got 'fast'"),
        ({"decode": "gpu"}, "decode: needs the model on a GPU: expected device='cuda', got device='cpu'"),
        ({"tuned_for": "speed"}, "tuned_for: no such choice: expected latency or throughput, got 'speed'"),
        ({"imgsz": 0}, "imgsz: bad size"),
        ({"imgsz": (64, 64, 3)}, "imgsz: bad size"),
        ({"imgsz": 1_000_000}, "imgsz: bad size"),
        ({"imgsz": True}, "imgsz: bad size"),
        ({"imgsz": "640"}, "imgsz: bad size"),
        ({"imgsz": 640.0}, "imgsz: bad size"),
        ({"shape_mode": "rect"}, "rectangular input needs a graph with dynamic height and width"),
        ({"shape_mode": "oval"}, "shape_mode: no such mode"),
        ({"imgsz": 128}, "the graph has a fixed size: expected 64×96, got 128×128"),
    ],
)
def test_arguments_that_contradict_are_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        load(standard_onnx(), **arguments)


def test_a_size_between_strides_is_refused(checkpoint: Path) -> None:
    with pytest.raises(yoloship.YoloshipError, match="multiple of"):
        load(checkpoint, imgsz=100)


def test_files_that_are_no_model_give_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "text").write_text("not a model\n")
    (tmp_path / "zip").write_bytes(b"PK\x03\x04 and no more")
    (tmp_path / "other.onnx").write_bytes(scale_and_shift().SerializeToString())
    cases: list[tuple[str, type[Exception], str]] = [
        ("none.pt", InputError, "no such file"),
        (".", InputError, "is a folder, not a model"),
        ("empty", SessionError, "is empty"),
        ("text", SessionError, "is a text file, not a checkpoint, an ONNX model"),
        ("zip", CheckpointError, "zip"),
        ("other.onnx", SessionError, "is not a model of a known form"),
    ]
    for name, kind, words in cases:
        with pytest.raises(kind, match=words) as caught:
            load(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_a_second_process_loads_without_the_onnx_package() -> None:
    """`import yoloship` costs NumPy; a cached checkpoint needs the runtime and OpenCV, and no more than that."""
    script = (
        "import sys, json, yoloship\n"
        "bare = [name for name in ('cv2', 'onnxruntime', 'onnx', 'yoloship.models') if name in sys.modules]\n"
        f"found = yoloship.load({str(require(TRAINED / 'coco-yolov5n.pt'))!r})({str(require(PHOTOS / 'bus.jpg'))!r})\n"
        "late = [name for name in ('onnx', 'PIL', 'yoloship.graph', 'yoloship.checkpoint') if name in sys.modules]\n"
        "print(json.dumps([bare, late, found.counts()]))\n"
    )

    def run() -> Any:
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, env=dict(os.environ))
        return json.loads(done.stdout)

    first, second = run(), run()
    assert first[0] == second[0] == []
    assert "yoloship.graph" in first[1]
    assert second[1] == []
    assert first[2] == second[2] == {"person": 4, "bus": 1}


@pytest.mark.skipif(probe().problem is None, reason="there is a GPU here")
def test_without_a_gpu_the_error_says_what_is_missing(checkpoint: Path) -> None:
    for model, device in ((checkpoint, "cuda"), (standard_onnx(), "cuda:0")):
        with pytest.raises((CudaError, DependencyError)) as caught:
            load(model, device=device)
        assert str(caught.value) == str(probe().problem)


def test_an_engine_is_no_model_for_the_cpu(tmp_path: Path) -> None:
    for name, start in (("a", b"ftrt"), ("b", b"vtrt"), ("c", b"ptrt"), ("d", b"\x10\0\0\0{}")):
        path = tmp_path / name
        path.write_bytes(start + bytes(60))
        with pytest.raises(InputError, match="a TensorRT engine runs on a GPU: expected cuda, got cpu"):
            load(path, device="cpu")


def test_thresholds_given_one_by_one_are_those_of_options(checkpoint: Path) -> None:
    given: dict[str, Any] = {
        "score_threshold": np.float32(0.5),
        "iou_threshold": 0.25,
        "classes": [0],
        "max_detections": 7,
    }
    with load(checkpoint, imgsz=np.int64(64), channels="rgb", **given) as detector:
        assert detector.options == DetectOptions(0.5, 0.25, 7, (0,))
        assert detector(IMAGE) == detector(np.ascontiguousarray(IMAGE[:, :, ::-1]), channels="bgr")


def test_what_is_given_twice_or_in_an_unknown_order_is_refused_before_anything_is_read() -> None:
    with pytest.raises(InputError, match="max_detections: is given twice, alone and inside options"):
        load("missing.pt", options=DetectOptions(), max_detections=3)
    wrong: Any = "RGB"
    with pytest.raises(InputError, match="channels: no such channel order: expected bgr or rgb, got 'RGB'"):
        load("missing.pt", channels=wrong)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"score_threshold": True}, "score_threshold: out of range"),
        ({"score_threshold": 10**400}, "score_threshold: out of range"),
        ({"classes": "person"}, "classes: wrong type"),
        ({"max_detections": 0}, "max_detections: out of range"),
        ({"shape_mode": []}, "shape_mode: no such mode: expected square or rect"),
        ({"runtime_precision": ["bfloat16"]}, "runtime_precision: no such choice"),
        ({"tuned_for": np.array(["latency", "throughput"])}, "tuned_for: no such choice"),
        ({"runtime": 1}, "runtime: wrong type"),
        ({"runtime": []}, "runtime: wrong type"),
        (
            {"device": 0},
            "no such device: expected cpu, cuda, cuda:N, cuda:N,cuda:M or cuda:all, got 0; write 'cuda:0'",
        ),
        ({"device": "1"}, "write 'cuda:1'"),
        ({"channels": np.array(["bgr", "rgb"])}, "channels: no such channel order"),
        ({"class_names": 80}, "class_names: wrong type"),
        ({"aliases": ["a"]}, "aliases: wrong type"),
        ({"head": "both"}, "head: no such choice: expected one2many or one2one"),
    ],
)
def test_arguments_are_judged_before_the_model_is_looked_for(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        load("not-there.pt", **arguments)


def test_a_head_is_chosen_for_checkpoints_only() -> None:
    path = require(CHECKPOINTS / "families" / "y26-detect-2heads.pt")
    found = []
    for head in ("one2many", "one2one"):
        with load(path, imgsz=96, head=head) as detector:
            found.append((detector.info.head, detector.info.output_form, detector.input_hw))
    assert found == [("one2many", "heads", (96, 96)), ("one2one", "heads", (96, 96))]
    graph = graph_bytes(build_graph(read_checkpoint(path), GraphConfig((96, 96))))
    with pytest.raises(InputError, match="head: is for checkpoints: expected none, got one2one"):
        load(graph, head="one2one")


def test_an_open_graph_has_the_canvas_of_the_training() -> None:
    path = require(CHECKPOINTS / "families" / "v8-detect-nc7-names.pt")
    with load(path, shape_mode="rect") as detector:
        assert detector.input_hw == (320, 320)
    with load(graph_bytes(build_graph(read_checkpoint(path), GraphConfig(None)))) as detector:
        assert detector.input_hw == (320, 320)
