from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper

from helpers.models import model, scale_and_shift
from yoloship.errors import DependencyError, InputError, SessionError
from yoloship.runtime import openvino as ours
from yoloship.runtime.onnxruntime.cpu import OnnxRuntimeSession
from yoloship.runtime.openvino import OpenVinoSession, import_openvino

pytestmark = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="openvino is not installed")

X = np.arange(6, dtype=np.float32).reshape(2, 3)
HAS_BFLOAT16 = bool({"amx_bf16", "avx512_bf16"} & set(ours._processor_flags().split()))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("YOLOSHIP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def small() -> bytes:
    data: bytes = scale_and_shift().SerializeToString()
    return data


def one_node(kind: str, element_type: int = TensorProto.FLOAT, shape: list[Any] | None = None) -> bytes:
    shape = [1] if shape is None else shape
    proto = model(
        [helper.make_node(kind, ["x"], ["y"])],
        [helper.make_tensor_value_info("x", element_type, shape)],
        [helper.make_tensor_value_info("y", element_type, shape)],
        {},
    )
    data: bytes = proto.SerializeToString()
    return data


def refusal(source: Path | bytes) -> str:
    with pytest.raises(SessionError) as caught:
        OpenVinoSession.open(source)
    text = str(caught.value)
    assert "\n" not in text
    assert "src/" not in text
    assert "Exception from" not in text
    return text


def test_the_precision_is_float32_unless_another_one_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with OpenVinoSession.open(small()) as session:
        assert session.precision == "float32"
        assert session.name.startswith("openvino 20")
        assert session.name.endswith("(CPU, float32)")


@pytest.mark.skipif(not HAS_BFLOAT16, reason="this processor has no bfloat16 arithmetic")
def test_bfloat16_is_what_is_computed_in_when_it_is_asked_for() -> None:
    third = np.full((1, 64), 1 / 3, np.float32)
    weights = np.full((64, 64), 1 / 3, np.float32)
    proto = model(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 64])],
        {"w": weights},
    )
    data = proto.SerializeToString()
    want = (third @ weights)[0, 0]
    with OpenVinoSession.open(data) as exact, OpenVinoSession.open(data, precision="bfloat16") as rough:
        assert rough.precision == "bfloat16"
        assert rough.name.endswith("(CPU, bfloat16)")
        assert abs(float(exact.run({"x": third})[0][0, 0]) - want) < 1e-4
        assert 1e-4 < abs(float(rough.run({"x": third})[0][0, 0]) - want) < 0.1


@pytest.mark.parametrize("flags", ["fpu sse2 avx2", "fpu avx2 avx512f avx512_vnni"])
def test_bfloat16_is_refused_by_name_if_the_processor_would_only_emulate_it(
    flags: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ours, "_processor_flags", lambda: flags)
    with pytest.raises(InputError, match=r"runtime_precision: this processor has no bfloat16 arithmetic .*use float32"):
        OpenVinoSession.open(small(), precision="bfloat16")
    OpenVinoSession.open(small()).close()


def test_the_flags_of_the_processor_are_those_that_the_system_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = tmp_path / "cpuinfo"
    listed.write_text("processor\t: 0\nflags\t\t: fpu amx_bf16\n\nprocessor\t: 1\nflags\t\t: fpu\n")
    monkeypatch.setattr(ours, "_CPUINFO", listed)
    assert ours._processor_flags() == "fpu amx_bf16"
    monkeypatch.setattr(ours, "_CPUINFO", tmp_path / "none")
    assert ours._processor_flags() == ""


def test_a_precision_that_openvino_replaces_in_silence_is_refused() -> None:
    asked: Any = "float16"  # OpenVINO takes bfloat16 for it on this kind of processor
    with pytest.raises(InputError, match="expected float32 or bfloat16, got float16"):
        OpenVinoSession.open(small(), precision=asked)


def test_a_precision_that_was_not_obeyed_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    compile_ = ours._Compilation.from_source

    class Disobedient:
        def __init__(self, compiled: Any) -> None:
            self._compiled = compiled

        def __getattr__(self, name: str) -> Any:
            return getattr(self._compiled, name)

        def get_property(self, name: str) -> Any:
            bfloat16 = ours.import_openvino().Type.bf16
            return bfloat16 if name == "INFERENCE_PRECISION_HINT" else self._compiled.get_property(name)

    monkeypatch.setattr(ours._Compilation, "from_source", lambda *given: Disobedient(compile_(*given)))
    with pytest.raises(SessionError, match="does not compute in the precision that was set: expected f32, got bf16"):
        OpenVinoSession.open(small())


def test_the_environment_and_the_home_folder_stay_as_they_were_and_nothing_is_sent(tmp_path: Path) -> None:
    program = """
import os, sys
from pathlib import Path
sent = []
sys.addaudithook(lambda event, _: sent.append(event) if event.startswith("socket.") else None)
before = dict(os.environ)
from yoloship.runtime.openvino import OpenVinoSession
OpenVinoSession.open(Path(sys.argv[1])).run({"x": __import__("numpy").ones((1, 3), "float32")})
assert dict(os.environ) == before
assert "openvino_telemetry" not in sys.modules
assert sent == [], sent
import openvino
assert openvino.convert_model
"""
    path = tmp_path / "a.onnx"
    path.write_bytes(small())
    home = tmp_path / "home"
    home.mkdir()
    environment = {**os.environ, "HOME": str(home)}
    subprocess.run([sys.executable, "-c", program, str(path)], env=environment, check=True)
    assert not list(home.rglob("*"))


def test_it_is_said_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(DependencyError, match=r"openvino: is not installed.*pip install 'yoloship\[openvino\]'"):
        OpenVinoSession.open(small())
    assert "openvino_telemetry" not in sys.modules


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("raise OSError('libtbb.so.12: no such file')", "got libtbb.so.12: no such file"),
        ("", "cannot import name 'Core'"),
    ],
)
def test_one_that_is_installed_by_half_is_an_error_of_one_line(
    source: str, words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tmp_path.joinpath("openvino.py").write_text(source)
    monkeypatch.delitem(sys.modules, "openvino", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(DependencyError, match=f"openvino: is not installed, or cannot be imported: .*{words}"):
        import_openvino()


def test_the_compiled_model_is_kept_and_taken_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with OpenVinoSession.open(small()) as session:
        want = session.run({"x": X})
    (path,) = (cache / "compiled").iterdir()
    assert path.stat().st_mode & 0o077 == 0
    monkeypatch.setattr(ours._Compilation, "from_source", None)
    with OpenVinoSession.open(small()) as session:
        np.testing.assert_array_equal(session.run({"x": X}), want)
        assert session.inputs[0].shape == ("batch", 3)


def test_other_precisions_tunings_threads_and_files_are_other_entries(cache: Path) -> None:
    OpenVinoSession.open(small()).close()
    OpenVinoSession.open(small(), tuned_for="throughput").close()
    OpenVinoSession.open(small(), threads=1).close()
    OpenVinoSession.open(one_node("Relu")).close()
    count = 4
    if HAS_BFLOAT16:
        OpenVinoSession.open(small(), precision="bfloat16").close()
        count += 1
    assert len(list((cache / "compiled").iterdir())) == count


def test_an_entry_that_was_changed_is_compiled_again(cache: Path) -> None:
    OpenVinoSession.open(small()).close()
    (path,) = (cache / "compiled").iterdir()
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with OpenVinoSession.open(small()) as session:
        np.testing.assert_array_equal(session.run({"x": X})[0], X * 2 + 1)
    (again,) = (cache / "compiled").iterdir()
    assert again.name == path.name
    assert not again.read_bytes().endswith(b"x")


def test_an_entry_that_openvino_no_longer_takes_is_compiled_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "cached", lambda *_: b"of another build")
    with OpenVinoSession.open(small()) as session:
        np.testing.assert_array_equal(session.run({"x": X})[0], X * 2 + 1)


def test_without_a_cache_it_still_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("YOLOSHIP_CACHE", str(tmp_path / "file"))
    with OpenVinoSession.open(small()) as session:
        np.testing.assert_array_equal(session.run({"x": X})[0], X * 2 + 1)


def test_for_latency_one_run_uses_all_cores() -> None:
    with OpenVinoSession.open(small(), tuned_for="latency") as session:
        assert session.concurrent_runs == 1


def test_for_throughput_there_are_three_runs_for_each_stream() -> None:
    with OpenVinoSession.open(small(), tuned_for="throughput", threads=1) as session:
        assert session.concurrent_runs == 3


def test_the_quota_of_a_container_limits_the_threads_which_are_not_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pinned threads of every container would share the machine's first cores."""
    monkeypatch.setattr(ours, "quota_cores", lambda: 1)
    with OpenVinoSession.open(small()) as session:
        assert session._requests is not None
        compiled = session._requests._compiled
        assert compiled.get_property("INFERENCE_NUM_THREADS") == 1
        assert compiled.get_property("ENABLE_CPU_PINNING") is False


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="there is one core")
def test_throughput_runs_several_at_once() -> None:
    with OpenVinoSession.open(small(), tuned_for="throughput", threads=2) as session:
        assert session.concurrent_runs == 6

        def ask(value: int) -> bool:
            x = np.full((2, 3), value, np.float32)
            return bool((session.run({"x": x})[0] == x * 2 + 1).all())

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(ask, range(300)))


def test_no_threads_are_refused() -> None:
    with pytest.raises(InputError, match="threads: too few threads: expected 1 or more, got 0"):
        OpenVinoSession.open(b"", threads=0)


@pytest.mark.timeout(60)
def test_it_may_be_closed_while_others_run() -> None:
    session = OpenVinoSession.open(small())
    started = threading.Event()

    def ask() -> int:
        runs = 0
        with pytest.raises(SessionError, match="closed"):
            while True:
                np.testing.assert_array_equal(session.run({"x": X})[0], X * 2 + 1)
                runs += 1
                started.set()
        return runs

    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(ask) for _ in range(4)]
        started.wait()
        session.close()
        assert sum(one.result() for one in asked)


def test_a_failure_while_running_is_ours_and_the_next_run_works() -> None:
    proto = model(
        [helper.make_node("Reshape", ["x", "to"], ["y"])],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["m", 4])],
        {"to": np.array([-1, 4])},
    )
    with OpenVinoSession.open(proto.SerializeToString()) as session:
        with pytest.raises(SessionError, match=r"the runtime failed: .*conflicts with the reshape pattern") as caught:
            session.run({"x": np.zeros(7, np.float32)})
        assert "src/" not in str(caught.value)
        assert session.run({"x": np.zeros(8, np.float32)})[0].shape == (2, 4)


def test_what_is_not_a_model_is_named(tmp_path: Path) -> None:
    assert "is empty (0 bytes)" in refusal(b"")
    assert "is a text file, not an ONNX model" in refusal(b"weights\n")
    with pytest.raises(InputError, match=r"none\.onnx: no such file"):
        OpenVinoSession.open(tmp_path / "none.onnx")


def test_a_file_cut_short_anywhere_is_refused() -> None:
    data = small()
    for end in range(1, len(data) - 1, 7):
        refusal(data[:end])


def test_an_opset_of_the_future_is_refused_though_openvino_would_take_it() -> None:
    assert "was made for a newer runtime: expected ONNX opset" in refusal(scale_and_shift(opset=99).SerializeToString())


def test_an_operator_that_it_lacks_is_named() -> None:
    assert "OpenVINO does not have its operators Frobnicate" in refusal(one_node("Frobnicate"))


@pytest.mark.parametrize(
    ("element_type", "words"),
    [(TensorProto.STRING, "a type that no array has"), (TensorProto.BFLOAT16, "elements that NumPy does not have")],
)
def test_elements_that_no_array_has_are_refused(element_type: int, words: str) -> None:
    assert words in refusal(one_node("Identity", element_type))


def test_an_axis_without_a_name_is_dynamic() -> None:
    with OpenVinoSession.open(one_node("Relu", shape=[None, 3])) as session:
        assert session.inputs[0].shape == ("x.0", 3)


def test_weights_beside_the_file_are_found_and_missed(tmp_path: Path, cache: Path) -> None:
    proto = model(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1000])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1000])],
        {"w": np.ones(1000, np.float32)},
    )
    path = tmp_path / "big.onnx"
    onnx.save(proto, str(path), save_as_external_data=True, location="big.bin", size_threshold=0)
    with OpenVinoSession.open(path) as session:
        np.testing.assert_array_equal(session.run({"x": np.zeros(1000, np.float32)})[0], np.ones(1000))
    assert not list(cache.rglob("*.blob")), "its key would not tell that the other file has changed"
    (tmp_path / "big.bin").write_bytes(b"short")
    assert "missing or too short: expected big.bin" in refusal(path)
    (tmp_path / "big.bin").unlink()
    assert "missing or too short: expected big.bin" in refusal(path)


def test_a_watched_session_gives_what_an_unwatched_one_gives() -> None:
    with OpenVinoSession.open(small(), limit_s=60) as one, OpenVinoSession.open(small()) as other:
        np.testing.assert_array_equal(one.run({"x": X})[0], other.run({"x": X})[0])


@pytest.mark.timeout(60)
def test_a_run_that_takes_too_long_is_ended_and_the_session_still_works(monkeypatch: pytest.MonkeyPatch) -> None:
    side, layers = 256, 400
    nodes = [helper.make_node("MatMul", [f"v{n}", "w"], [f"v{n + 1}"]) for n in range(layers)]
    proto = model(
        nodes,
        [helper.make_tensor_value_info("v0", TensorProto.FLOAT, ["n", side])],
        [helper.make_tensor_value_info(f"v{layers}", TensorProto.FLOAT, ["n", side])],
        {"w": np.eye(side, dtype=np.float32)},
    )
    with OpenVinoSession.open(proto.SerializeToString(), limit_s=60) as session:
        monkeypatch.setattr(session, "_limit_s", 0.2)
        with pytest.raises(SessionError, match="the run took too long and was ended"):
            session.run({"v0": np.ones((60_000, side), np.float32)})
        monkeypatch.setattr(session, "_limit_s", 60)
        assert session.run({"v0": np.ones((2, side), np.float32)})[0].shape == (2, side)


def test_feeds_are_not_kept() -> None:
    x = X.copy()
    before = sys.getrefcount(x)
    with OpenVinoSession.open(small()) as session:
        session.run({"x": x})
        assert sys.getrefcount(x) == before


def assert_close(found: npt.NDArray[Any], wanted: npt.NDArray[Any]) -> None:
    np.testing.assert_allclose(found, wanted, atol=1e-3)


def conv(group: int, front: list[onnx.NodeProto], tensors: dict[str, Any], feed: str = "a") -> bytes:
    """8 channels through `front`, a 3×3 convolution, and a 1×1 convolution."""
    rng = np.random.default_rng(0)
    weights = {
        "w1": rng.standard_normal((8, 8 // group, 3, 3)).astype(np.float32),
        "w2": rng.standard_normal((6, 8, 1, 1)).astype(np.float32),
    }
    proto = model(
        [
            *front,
            helper.make_node("Conv", [feed, "w1"], ["b"], group=group, pads=[1] * 4),
            helper.make_node("Conv", ["b", "w2"], ["y"]),
        ],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8, 6, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 6, 6, 6])],
        {**tensors, **weights},
    )
    data: bytes = proto.SerializeToString()
    return data


@pytest.mark.parametrize("group", [1, 8])
@pytest.mark.parametrize("order", [[0, 4, 1, 5, 2, 6, 3, 7], [1, 2, 0, 3, 4, 5, 6, 7], [7, 6, 5, 4, 3, 2, 1, 0]])
def test_channels_that_are_shuffled_before_a_convolution_stay_in_their_order(order: list[int], group: int) -> None:
    """OpenVINO 2026.4 by itself puts them into the inverse order."""
    shuffle = helper.make_node("Gather", ["x", "order"], ["a"], axis=1)
    data = conv(group, [shuffle], {"order": np.array(order, np.int64)})
    x = np.random.default_rng(1).standard_normal((1, 8, 6, 6)).astype(np.float32)
    with OpenVinoSession.open(data) as session, OnnxRuntimeSession.open(data) as right:
        assert_close(session.run({"x": x})[0], right.run({"x": x})[0])


def test_a_quantized_graph_is_computed_as_it_says_and_not_by_kernels_that_give_other_boxes() -> None:
    rng = np.random.default_rng(0)
    tensors: dict[str, Any] = {
        "scale": np.array(0.02, np.float32),
        "zero": np.array(128, np.uint8),
        "w": rng.integers(-127, 128, (8, 8, 3, 3)).astype(np.int8),
        "ws": np.array(0.01, np.float32),
        "wz": np.array(0, np.int8),
    }
    proto = model(
        [
            helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
            helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["a"]),
            helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["d"]),
            helper.make_node("Conv", ["a", "d"], ["y"], pads=[1] * 4),
        ],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8, 6, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8, 6, 6])],
        tensors,
    )
    data = proto.SerializeToString()
    x = rng.standard_normal((1, 8, 6, 6)).astype(np.float32)
    with OpenVinoSession.open(data) as session, OnnxRuntimeSession.open(data) as right:
        assert_close(session.run({"x": x})[0], right.run({"x": x})[0])
        assert session._requests is not None
        nodes = session._requests._compiled.get_runtime_model().get_ops()
        facts = [
            {key: node.get_rt_info()[key].astype(str) for key in ("layerType", "runtimePrecision")} for node in nodes
        ]
        assert [fact["runtimePrecision"] for fact in facts if fact["layerType"] == "Convolution"] == ["f32"]


def outputs_of(session: OpenVinoSession, factor: float) -> npt.NDArray[Any]:
    return session.run({session.inputs[0].name: X * np.float32(factor)})[0]


@pytest.mark.parametrize("view", [False, True], ids=["array", "view"])
def test_an_output_that_is_kept_stays_as_it_is_whatever_runs_afterwards(view: bool) -> None:
    with OpenVinoSession.open(small()) as session:
        kept = outputs_of(session, 1)
        if view:
            kept = kept[1:]
        expected = kept.copy()
        for factor in (2, 3, 4):
            outputs_of(session, factor)
        np.testing.assert_array_equal(kept, expected)
    np.testing.assert_array_equal(kept, expected)  # and after the session is closed


def test_outputs_are_not_copied_and_their_memory_is_used_again_once_they_are_gone() -> None:
    with OpenVinoSession.open(small()) as session:
        places = {outputs_of(session, factor).ctypes.data for factor in (1, 2, 3)}
        assert len(places) == 1
        kept = outputs_of(session, 4)
        assert outputs_of(session, 5).ctypes.data != kept.ctypes.data


def test_what_a_caller_writes_into_an_output_does_not_reach_later_runs() -> None:
    with OpenVinoSession.open(small()) as session:
        expected = outputs_of(session, 1).copy()
        found = outputs_of(session, 1)
        found[...] = 77
        del found
        np.testing.assert_array_equal(outputs_of(session, 1), expected)


def test_outputs_that_are_dropped_in_any_thread_are_never_written_by_two_runs_at_once() -> None:
    with OpenVinoSession.open(small(), tuned_for="throughput") as session:

        def check(factor: int) -> None:
            kept = [outputs_of(session, factor) for _ in range(3)]
            assert len({array.ctypes.data for array in kept}) == 3
            for array in kept:
                np.testing.assert_array_equal(array, kept[0])

        before = [outputs_of(session, factor).copy() for factor in range(4)]
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(check, [1, 2, 3] * 20))
        for factor, expected in enumerate(before):
            np.testing.assert_array_equal(outputs_of(session, factor), expected)


def test_threads_that_use_openvino_for_the_first_time_at_once_do_not_wait_for_each_other_for_ever(
    tmp_path: Path,
) -> None:
    (tmp_path / "model.onnx").write_bytes(small())
    script = """
import faulthandler, sys, threading, time
from yoloship.runtime.openvino import import_openvino
openvino = import_openvino()
core = openvino.Core()
compiled = core.compile_model(core.read_model(sys.argv[1]), "CPU")
tensors = [compiled.create_infer_request().get_tensor(compiled.inputs[0]) for _ in range(8)]
sys.setswitchinterval(1e-6)
faulthandler.dump_traceback_later(15, exit=True)  # its thread does not need the lock
start = time.monotonic() + 0.3
def use(tensor):
    while time.monotonic() < start:  # so that all of them want the interpreter's lock
        pass
    tensor.data
threads = [threading.Thread(target=use, args=(tensor,)) for tensor in tensors]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""
    command = [sys.executable, "-c", script, str(tmp_path / "model.onnx")]
    assert subprocess.run(command, check=False).returncode == 0
