"""Which versions of TensorRT-RTX are too old for a precision. tests/engines builds with the installed one."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from yoloship.engine import Flavour
from yoloship.engine.flavours import FlavourName
from yoloship.engine.rtx_precisions import check_precision_version, update_hint
from yoloship.errors import EngineError


def flavour(version: str, name: FlavourName = "rtx") -> Flavour:
    return Flavour(name, version, SimpleNamespace())


@pytest.mark.parametrize(
    ("version", "types", "needed"),
    [
        ("1.4.0.76", ["int8", "float32"], "1.7"),
        ("1.6.1.120", ["int8"], "1.7"),
        ("1.7.1.116", ["int8"], None),
        ("1.4.0.76", ["float8_e4m3fn"], "1.5"),
        ("1.4.0.76", ["float8", "int8"], "1.7"),
        ("1.5.0.114", ["float8"], None),
        ("1.10.0.1", ["int8", "float8"], None),
        ("1.4.0.76", ["float16", "bfloat16", "uint8"], None),
    ],
)
def test_the_version_that_is_needed_is_named(version: str, types: list[str], needed: str | None) -> None:
    wanted = None if needed is None else f"update it: pip install 'tensorrt_rtx>={needed}'"
    assert update_hint(flavour(version), types) == wanted
    assert update_hint(flavour(version, "tensorrt"), types) is None


def test_it_is_refused_before_there_is_a_graph_unless_a_gpu_might_change_it() -> None:
    with pytest.raises(EngineError) as caught:
        check_precision_version(flavour("1.6.1.120"), "int8", has_device=False)
    assert str(caught.value) == (
        "tensorrt_rtx 1.6.1.120: cannot build int8 on a machine without a GPU; update it: "
        "pip install 'tensorrt_rtx>=1.7'"
    )
    check_precision_version(flavour("1.6.1.120"), "int8", has_device=True)
    check_precision_version(flavour("1.6.1.120"), "float16", has_device=False)
