"""Foreign graphs of a few hundred bytes that ask for gigabytes or for years: refused before any runtime opens them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from helpers.models import constant_raw, empty_rows, model
from yoloship.bounds import UnsizedError
from yoloship.bounds.check import MAX_LINKS
from yoloship.detect.detector import Detector
from yoloship.errors import SessionError, YoloshipError
from yoloship.models.loading import load
from yoloship.models.vetting import vetted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

HW = (64, 64)
HUGE = 1 << 30
LIMIT_BYTES = 3 << 30
"""Of address space, for each command in a process of its own."""
node = helper.make_node


def detector(
    nodes: Sequence[onnx.NodeProto], constants: dict[str, Any], *, opset: int = 17, result: str = "big"
) -> onnx.ModelProto:
    """A right detector to whose rows the largest number of `result` is added, times 0."""
    rest = [
        node("ReduceMean", ["images"], ["mean"], keepdims=0),
        *nodes,
        node("Cast", [result], ["big.float"], to=TensorProto.FLOAT),
        node("ReduceMax", ["big.float"], ["most"], keepdims=0),
        node("Mul", ["most", "zero"], ["nothing"]),
        node("Add", ["rows", "nothing"], ["output0"]),
    ]
    rows = empty_rows(HW)
    return model(
        rest,
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, *HW])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, rows.shape)],
        {"rows": rows, "zero": np.array(0, np.float32), **{k: np.asarray(v) for k, v in constants.items()}},
        opset=opset,
    )


def sized(*sides: int) -> np.ndarray[Any, Any]:
    return np.array(sides, np.int64)


def doubled(times: int) -> onnx.ModelProto:
    nodes = [node("Reshape", ["mean", "one"], ["v0"])]
    nodes += [node("Concat", [f"v{n}", f"v{n}"], [f"v{n + 1}"], axis=0) for n in range(times)]
    return detector(nodes, {"one": sized(1)}, result=f"v{times}")


def shape_of_content(op: str) -> onnx.ModelProto:
    """The size depends on what the image shows: small for a grey one."""
    nodes = [
        node("ReduceMax", ["images"], ["brightest"], keepdims=0),
        node("Mul", ["brightest", "many"], ["count"]),
        node("Cast", ["count"], ["count.int"], to=TensorProto.INT64),
        node("Reshape", ["count.int", "one"], ["size"]),
        node(op, ["size"] if op == "ConstantOfShape" else ["mean", "size"], ["big"]),
    ]
    return detector(nodes, {"many": np.array(1e9, np.float32), "one": sized(1)})


def body(name: str) -> onnx.GraphProto:
    return helper.make_graph(
        [node("Identity", ["mean"], [f"{name}.out"])], name, [],
        [helper.make_tensor_value_info(f"{name}.out", TensorProto.FLOAT, [])],
    )  # fmt: skip


def loop() -> onnx.ModelProto:
    inside = helper.make_graph(
        [node("Identity", ["go"], ["still"]), node("Add", ["state", "state"], ["next"])], "inside",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, []),
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, []),
        ],
    )  # fmt: skip
    nodes = [node("Loop", ["trips", "true", "mean"], ["big"], body=inside)]
    return detector(nodes, {"trips": np.array(1 << 62, np.int64), "true": np.array(True)})


def doubling_functions(depth: int) -> onnx.ModelProto:
    made = detector([node("f0", ["mean"], ["big"], domain="own")], {})
    for level in range(depth):
        deeper = f"f{level + 1}" if level < depth - 1 else "Identity"
        domain = "own" if level < depth - 1 else ""
        nodes = [
            node(deeper, ["x"], ["a"], domain=domain), node(deeper, ["x"], ["b"], domain=domain),
            node("Add", ["a", "b"], ["y"]),
        ]  # fmt: skip
        made.functions.append(
            helper.make_function(
                "own", f"f{level}", ["x"], ["y"], nodes, [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
            )
        )
    made.opset_import.append(helper.make_opsetid("own", 1))
    return made


def many_branches(count: int) -> onnx.ModelProto:
    nodes = [
        node("If", ["true"], [f"v{n}"], then_branch=body(f"t{n}"), else_branch=body(f"e{n}")) for n in range(count)
    ]
    return detector(nodes, {"true": np.array(True)}, result="v0")


def convolution(kernel: int, pads: int) -> onnx.ModelProto:
    nodes = [
        node("Expand", ["small", "shape"], ["weights"]),
        node("Conv", ["images", "weights"], ["big"], pads=[pads] * 4),
    ]
    small = np.zeros((1, 1, 1, 1), np.float32)
    return detector(nodes, {"small": small, "shape": sized(16, 3, kernel, kernel)})


def sparse() -> onnx.ModelProto:
    made = detector([node("Identity", ["mean"], ["big"])], {})
    values = numpy_helper.from_array(np.ones(1, np.float32), "s")
    indices = numpy_helper.from_array(np.zeros(1, np.int64), "s.i")
    made.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [HUGE]))
    return made


def long_chain(count: int) -> onnx.ModelProto:
    nodes = [node("Add", [f"v{n}" if n else "mean"] * 2, [f"v{n + 1}"]) for n in range(count)]
    return detector(nodes, {}, result=f"v{count}")


def claimed_weights() -> onnx.ModelProto:
    """A stored tensor that claims gigabytes and holds none must not make room for others."""
    made = detector([node("ConstantOfShape", ["n"], ["big"])], {"n": sized(HUGE)})
    made.graph.initializer.append(TensorProto(name="unused", data_type=TensorProto.FLOAT, dims=[1 << 33]))
    return made


def large_input(side: int) -> onnx.ModelProto:
    """What an input claims must not make room for constants."""
    made = detector([node("ConstantOfShape", ["n"], ["big"])], {"n": sized(1 << 28)})
    for axis in (2, 3):
        made.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = side
    return made


def many_axes() -> onnx.ModelProto:
    made = detector([node("Identity", ["mean"], ["big"])], {})
    made.graph.initializer.append(TensorProto(name="unused", data_type=TensorProto.FLOAT, dims=[1 << 39] * 300_000))
    return made


def many_outputs() -> onnx.ModelProto:
    made = detector([node("Identity", ["mean"], ["big"])], {})
    made.graph.output.extend([onnx.ValueInfoProto(name="output0")] * (MAX_LINKS + 50))  # no more than it takes
    return made


def einsum(equation: str, left: list[int], right: list[int]) -> onnx.ModelProto:
    nodes = [
        node("ConstantOfShape", ["l"], ["left"]), node("ConstantOfShape", ["r"], ["right"]),
        node("Einsum", ["left", "right"], ["big"], equation=equation),
    ]  # fmt: skip
    return detector(nodes, {"l": sized(*left), "r": sized(*right)})


def suppression(boxes: int, *, classes: int, most: int) -> onnx.ModelProto:
    nodes = [
        node("ConstantOfShape", ["b"], ["boxes"]), node("ConstantOfShape", ["s"], ["scores"]),
        node("NonMaxSuppression", ["boxes", "scores", "most", "iou", "score"], ["big"]),
    ]  # fmt: skip
    values = {"most": sized(most), "iou": np.array([0.5], np.float32), "score": np.array([-1], np.float32)}
    return detector(nodes, {"b": sized(1, boxes, 4), "s": sized(1, classes, boxes), **values})


def best(count: np.ndarray[Any, Any]) -> onnx.ModelProto:
    nodes = [
        node("ConstantOfShape", ["n"], ["row"]), node("TopK", ["row", "k"], ["most", "places"], axis=0),
        node("ConstantOfShape", ["k"], ["big"]),
    ]  # fmt: skip
    return detector(nodes, {"n": sized(100), "k": count})


ATTACKS: dict[str, Callable[[], onnx.ModelProto]] = {
    "constant of shape": lambda: detector([node("ConstantOfShape", ["n"], ["big"])], {"n": sized(HUGE)}),
    "expand": lambda: detector([node("Expand", ["mean", "n"], ["big"])], {"n": sized(HUGE)}),
    "tile": lambda: detector(
        [node("Reshape", ["mean", "one"], ["v"]), node("Tile", ["v", "n"], ["big"])],
        {"n": sized(HUGE), "one": sized(1)},
    ),
    "range": lambda: detector(
        [node("Range", ["a", "n", "b"], ["big"])],
        {"a": np.array(0, np.int64), "n": np.array(HUGE, np.int64), "b": np.array(1, np.int64)},
    ),
    "pad": lambda: detector([node("Pad", ["images", "p"], ["big"])], {"p": sized(0, 0, 0, 0, 0, 0, 0, HUGE)}),
    "resize": lambda: detector(
        [node("Resize", ["images", "", "s"], ["big"])], {"s": np.array([1, 1, 4096, 4096], np.float32)}
    ),
    "large pooling kernel": lambda: detector(
        [node("AveragePool", ["images"], ["big"], kernel_shape=[200, 200], pads=[199] * 4)], {}
    ),
    "resize to sizes": lambda: detector(
        [node("Resize", ["images", "", "", "s"], ["big"])], {"s": sized(1, 3, 1 << 15, 1 << 15)}
    ),
    "one hot": lambda: detector(
        [node("Cast", ["images"], ["i"], to=TensorProto.INT64), node("OneHot", ["i", "n", "v"], ["big"])],
        {"n": sized(1 << 20), "v": np.array([0, 1], np.float32)},
    ),
    "outer product": lambda: detector(
        [
            node("Expand", ["mean", "n"], ["v"]),
            node("Expand", ["mean", "m"], ["w"]),
            node("MatMul", ["v", "w"], ["big"]),
        ],
        {"n": sized(1 << 15, 1), "m": sized(1, 1 << 15)},
    ),
    "outer sum": lambda: detector(
        [node("Expand", ["mean", "n"], ["v"]), node("Expand", ["mean", "m"], ["w"]), node("Add", ["v", "w"], ["big"])],
        {"n": sized(1 << 15, 1), "m": sized(1, 1 << 15)},
    ),
    "doubling": lambda: doubled(32),
    "padded convolution": lambda: convolution(3, 1 << 14),
    "large kernel": lambda: convolution(600, 300),
    "gather": lambda: detector(
        [node("ConstantOfShape", ["n"], ["i"], value=numpy_helper.from_array(np.zeros(1, np.int64))),
         node("Gather", ["images", "i"], ["big"])], {"n": sized(1 << 16)},
    ),
    "random": lambda: detector([node("RandomNormal", [], ["big"], shape=[HUGE])], {}),
    "window": lambda: detector([node("HannWindow", ["n"], ["big"])], {"n": np.array(HUGE, np.int64)}),
    "constant only": lambda: detector(
        [node("ConstantOfShape", ["n"], ["v"]), node("ReduceSum", ["v"], ["big"], keepdims=0)], {"n": sized(HUGE)}
    ),
    "many constants": lambda: detector(
        [n for k in range(100) for n in (
            node("ConstantOfShape", ["n"], [f"v{k}"]), node("ReduceMax", [f"v{k}"], [f"w{k}"], keepdims=0))
        ] + [node("Sum", [f"w{k}" for k in range(100)], ["big"])], {"n": sized(1 << 24)},
    ),
    "content decides": lambda: shape_of_content("ConstantOfShape"),
    "content decides an expansion": lambda: shape_of_content("Expand"),
    "loop": loop,
    "doubling functions": lambda: doubling_functions(40),
    "thousands of branches": lambda: many_branches(3000),
    "sparse": sparse,
    "claimed weights": claimed_weights,
    "large input": lambda: large_input(4096),
    "giant input": lambda: large_input(30_000),
    "many axes": many_axes,
    "many outputs": many_outputs,
    "long chain": lambda: long_chain(20_000),
    "huge sampling grid": lambda: detector(
        [node("ConstantOfShape", ["n"], ["grid"]), node("GridSample", ["images", "grid"], ["big"])],
        {"n": sized(1, 1 << 15, 1 << 15, 2)},
    ),
    "sampling grid of the content": lambda: detector(
        [
            node("ReduceMax", ["images"], ["brightest"], keepdims=0),
            node("Mul", ["brightest", "many"], ["count"]),
            node("Cast", ["count"], ["size"], to=TensorProto.INT64),
            node("ConstantOfShape", ["size"], ["grid"]), node("GridSample", ["images", "grid"], ["big"]),
        ],
        {"many": np.array([1, 30_000, 30_000, 2], np.float32)},
    ),
    "sampling every channel of a grid": lambda: detector(
        [
            node("ConstantOfShape", ["c"], ["wide"]), node("ConstantOfShape", ["n"], ["grid"]),
            node("GridSample", ["wide", "grid"], ["big"]),
        ],
        {"c": sized(1, 1 << 14, 1, 1), "n": sized(1, 1 << 10, 1 << 10, 2)},
    ),
    "einsum to a huge result": lambda: einsum("a,b->ab", [1 << 20], [1 << 20]),
    "einsum that sums over a huge product": lambda: einsum("abc,def->a", [100, 100, 100], [100, 100, 100]),
    "einsum whose letters are of one operand only": lambda: einsum("abcdef,ghijkl->", [10] * 6, [10] * 6),
    "einsum with an ellipsis": lambda: einsum("...a,...b->...ab", [1 << 10, 1 << 10], [1 << 10, 1 << 10]),
    "suppression with an enormous maximum": lambda: suppression(1 << 20, classes=1 << 10, most=(1 << 62)),
    "suppression of every pair": lambda: suppression(1 << 22, classes=1, most=1),
    "a negative number of best": lambda: best(sized(-5)),
    "a huge number of best": lambda: best(sized(HUGE)),
    "a number of best that the content decides": lambda: detector(
        [
            node("ReduceMax", ["images"], ["brightest"], keepdims=0),
            node("Mul", ["brightest", "many"], ["count"]), node("Cast", ["count"], ["k"], to=TensorProto.INT64),
            node("Reshape", ["k", "one"], ["size"]), node("Reshape", ["images", "flat"], ["row"]),
            node("TopK", ["row", "size"], ["big", "places"], axis=0), node("Tile", ["big", "size"], ["wide"]),
        ],
        {"many": np.array(1e9, np.float32), "one": sized(1), "flat": sized(-1)}, result="wide",
    ),
    "unknown domain": lambda: detector([node("Irfft", ["mean"], ["big"], domain="com.microsoft")], {}),
}  # fmt: skip


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.timeout(60)
def test_what_cannot_be_bounded_is_refused_before_it_is_opened(name: str) -> None:
    data = ATTACKS[name]().SerializeToString()
    with pytest.raises(SessionError) as caught:
        vetted(data, "x.onnx", None)
    text = str(caught.value)
    assert text.startswith("x.onnx: ")
    assert "\n" not in text
    with pytest.raises(SessionError):
        load(data)


def test_the_detector_that_the_attacks_are_made_of_runs() -> None:
    data = detector([node("Identity", ["mean"], ["big"])], {}).SerializeToString()
    with load(data) as found:
        assert isinstance(found, Detector)
        assert len(found(np.zeros((*HW, 3), np.uint8))) == 0


def test_nodes_in_any_order_are_followed() -> None:
    made = detector([node("Identity", ["mean"], ["big"])], {})
    nodes = list(made.graph.node)[::-1]
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    with load(made.SerializeToString()) as found:
        assert found.info.strides == (8, 16, 32)


def test_a_dynamic_graph_is_judged_at_the_canvas_and_at_full_batches() -> None:
    """Each pixel against each other: nothing at 64, and terabytes at 640."""
    made = detector(
        [
            node("ReduceMax", ["images"], ["grey"], axes=[1], keepdims=0),
            node("Reshape", ["grey", "column"], ["c"]), node("Reshape", ["grey", "row"], ["r"]),
            node("Add", ["c", "r"], ["big"]),
        ],
        {"column": sized(-1, 1), "row": sized(1, -1)},
    )  # fmt: skip
    for axis, name in ((0, "batch"), (2, "height"), (3, "width")):
        made.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
    data = made.SerializeToString()
    with pytest.raises(SessionError, match="needs too much memory for a detector"):
        vetted(data, "x.onnx", (640, 640))


@pytest.mark.parametrize(
    "shape", [[1, 3], [1, 2, 1], [2], [1, "n"], [1 << 40, 2], [0, 2], []], ids=lambda shape: "×".join(map(str, shape))
)
@pytest.mark.parametrize("element", [TensorProto.INT64, TensorProto.FLOAT])
def test_a_second_input_of_another_shape_is_refused(shape: list[int | str], element: int) -> None:
    made = detector([node("Cast", ["orig_target_sizes"], ["big"], to=TensorProto.FLOAT)], {})
    made.graph.input.append(helper.make_tensor_value_info("orig_target_sizes", element, shape))
    assert_refused(made)


def test_two_second_inputs_and_a_size_without_an_image_are_refused() -> None:
    made = detector([node("Add", ["orig_target_sizes", "other"], ["big"])], {})
    for name in ("orig_target_sizes", "other"):
        made.graph.input.append(helper.make_tensor_value_info(name, TensorProto.INT64, [1, 2]))
    assert_refused(made)
    alone = detector([node("Cast", ["orig_target_sizes"], ["big"], to=TensorProto.FLOAT)], {})
    alone.graph.input[0].CopyFrom(helper.make_tensor_value_info("orig_target_sizes", TensorProto.INT64, [1, 2]))
    alone.graph.node[0].input[0] = "big"
    assert_refused(alone)


def test_a_size_that_decides_how_large_a_value_is_cannot_be_bounded() -> None:
    """The size is ours, and is the canvas's; a graph must not make a value of as many elements as its square."""
    nodes = [
        node("Reshape", ["orig_target_sizes", "two"], ["pair"]), node("Mul", ["pair", "many"], ["sides"]),
        node("ConstantOfShape", ["sides"], ["big"]),
    ]  # fmt: skip
    made = detector(nodes, {"two": sized(2), "many": sized(1 << 12)})
    made.graph.input.append(helper.make_tensor_value_info("orig_target_sizes", TensorProto.INT64, [1, 2]))
    assert_refused(made)


def assert_refused(made: onnx.ModelProto) -> None:
    """By one line, before anything is run."""
    data = made.SerializeToString()
    with pytest.raises(SessionError) as caught:
        load(data, class_names=["a", "b", "c"])
    assert "\n" not in str(caught.value)


def test_a_size_in_the_metadata_does_not_make_room_for_a_costly_graph() -> None:
    nodes = [node("Reshape", ["images", "flat"], ["row"]), node("Tile", ["row", "many"], ["big"])]
    made = detector(nodes, {"flat": sized(-1), "many": sized(30)})
    for axis, name in ((2, "height"), (3, "width")):
        made.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
    before = vetted(made.SerializeToString(), "x.onnx", None).limit_s
    entry = made.metadata_props.add(key="imgsz", value="[8192, 8192]")
    assert vetted(made.SerializeToString(), "x.onnx", None).limit_s == before
    entry.value = "[1280, 1280]"
    assert vetted(made.SerializeToString(), "x.onnx", None).limit_s > before


def test_an_operator_outside_the_table_is_named() -> None:
    made = detector([node("Det", ["square"], ["big"])], {"square": np.zeros((2, 2), np.float32)})
    with pytest.raises(UnsizedError, match="uses the operator Det, which is not known here"):
        vetted(made.SerializeToString(), "x.onnx", None)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is limited and read as on Linux")
def test_no_command_takes_memory_or_time_for_them(tmp_path: Path) -> None:
    """In a process with little address space, each command on each file ends in one line."""
    for name, make in ATTACKS.items():
        (tmp_path / f"{name.replace(' ', '-')}.onnx").write_bytes(make().SerializeToString())
    program = (
        "import resource, sys; from pathlib import Path\n"
        f"resource.setrlimit(resource.RLIMIT_AS, ({LIMIT_BYTES}, {LIMIT_BYTES}))\n"
        "from yoloship.errors import YoloshipError\n"
        "from yoloship.evaluate.artefact import open_artefact\n"
        "from yoloship.graph import graph_costs\n"
        "from yoloship.graph.check import read_onnx\n"
        "from yoloship.graph.onnx_file import parse_onnx, read_file\n"
        "from yoloship.graph.body import layer_precisions\n"
        "from yoloship.models.loading import load\n"
        "from yoloship.models.building import build_source\n"
        "def built(path):\n"
        "    with build_source(path): pass\n"
        "def costs(path): graph_costs(parse_onnx(read_file(path), 'x'), subject='x')\n"
        "def layers(path): layer_precisions(parse_onnx(read_file(path), 'x'))\n"
        "refused = 0\n"
        "for path in sorted(Path(sys.argv[1]).glob('*.onnx')):\n"
        "    for use in (load, open_artefact, built, costs, read_onnx, layers):\n"
        "        try: use(path)\n"
        "        except YoloshipError: refused += 1\n"
        # Of this process alone: `getrusage` would count its parent's peak from before the exec, too.
        "fields = dict(line.split(':', 1) for line in Path('/proc/self/status').read_text().splitlines())\n"
        "peak = int(fields['VmHWM'].split()[0]) * 1024\n"
        "print(refused, peak)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False,
        env={
            **os.environ, "YOLOSHIP_CACHE": str(tmp_path / "cache"),
            "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2",  # address space does not grow with the cores then
        },
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    refused, peak = map(int, done.stdout.split())
    assert refused >= 2 * len(ATTACKS)  # `load` and `open_artefact` refuse each
    assert peak < 1 << 30


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    made = constant_raw(empty_rows(HW), HW, {})
    rows = next(tensor for tensor in made.graph.initializer if tensor.name == "raw")
    data = rows.raw_data
    rows.ClearField("raw_data")
    rows.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "weights.bin"), ("offset", "0"), ("length", str(len(data)))):
        rows.external_data.add(key=key, value=value)
    folder = tmp_path / "models"
    folder.mkdir()
    path = folder / "m.onnx"
    path.write_bytes(made.SerializeToString())
    (tmp_path / "secret").write_bytes(data)
    (folder / "weights.bin").symlink_to(tmp_path / "secret")
    with pytest.raises(YoloshipError, match="behind a link"):
        load(path)
    (folder / "weights.bin").unlink()
    (folder / "weights.bin").write_bytes(data)
    with load(path) as found:
        assert found.info.strides == (8, 16, 32)


def test_two_values_of_one_name_are_said_to_be_that() -> None:
    made = detector([node("Identity", ["mean"], ["big"]), node("Neg", ["mean"], ["big"])], {})
    with pytest.raises(UnsizedError, match="is not run: it has two values with the same name;"):
        vetted(made.SerializeToString(), "x.onnx", None)
