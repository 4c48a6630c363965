from __future__ import annotations

import ctypes
import re

import numpy as np
import pytest

from yoloship.cuda.compiler import KERNELS, KernelSpec, source_text
from yoloship.cuda.extras import EXTRA_LEVEL_DTYPE
from yoloship.cuda.free_heads import FREE_LEVEL_DTYPE
from yoloship.cuda.letterbox import FRAME_DTYPE
from yoloship.cuda.masks import WINDOW_BYTES
from yoloship.cuda.postprocess import LEVEL_DTYPE
from yoloship.errors import InputError

SPEC = KernelSpec("x.cu", "x", ("pointer", "int32", "float32"))


_ENTRY = 'extern "C" __global__ void '


@pytest.mark.parametrize("spec", KERNELS, ids=lambda spec: spec.entry)
def test_the_catalogue_agrees_with_the_source(spec: KernelSpec) -> None:
    found = re.search(rf"{_ENTRY}{spec.entry}\(([^)]*)\)", source_text(spec.source))
    assert found is not None
    kinds = [
        "pointer" if "*" in parameter else {"int": "int32", "float": "float32"}[parameter.split()[0]]
        for parameter in found[1].split(",")
    ]
    assert tuple(kinds) == spec.parameters


def test_every_entry_point_of_the_sources_is_in_the_catalogue() -> None:
    for source in {spec.source for spec in KERNELS}:
        entries = re.findall(rf"{_ENTRY}(\w+)", source_text(source))
        assert sorted(entries) == sorted(spec.entry for spec in KERNELS if spec.source == source)


def test_tables_have_the_layout_that_the_kernels_assert() -> None:
    assert (FRAME_DTYPE.itemsize, LEVEL_DTYPE.itemsize) == (104, 96)
    assert (FREE_LEVEL_DTYPE.itemsize, EXTRA_LEVEL_DTYPE.itemsize, WINDOW_BYTES) == (88, 48, 40)


def test_arguments_become_exact_c_types() -> None:
    pointer, whole, real = SPEC.pack((2**63, -5, 0.1))
    assert (type(pointer), pointer.value) == (ctypes.c_void_p, 2**63)
    assert (type(whole), whole.value) == (ctypes.c_int32, -5)
    assert (type(real), real.value) == (ctypes.c_float, float(np.float32(0.1)))
    assert SPEC.pack((np.uint64(7), np.int64(8), np.float32(0.5)))[2].value == 0.5
    assert SPEC.pack((0, 1, 2))[2].value == 2.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1, 2), "x: wrong number of arguments: expected 3, got 2"),
        ((1.0, 2, 3.0), "x argument 0: wrong argument: expected pointer, got float 1.0"),
        ((-1, 2, 3.0), "x argument 0: wrong argument: expected pointer, got int -1"),
        ((1, 2.0, 3.0), "x argument 1: wrong argument: expected int32, got float 2.0"),
        ((1, 2**31, 3.0), "x argument 1: wrong argument: expected int32, got int 2147483648"),
        ((1, True, 3.0), "x argument 1: wrong argument: expected int32, got bool True"),
        ((1, 2, "3"), "x argument 2: wrong argument: expected float32, got str '3'"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(InputError) as caught:
        SPEC.pack(arguments)  # type: ignore[arg-type]  # wrong on purpose
    assert str(caught.value) == message
