"""Whatever a request or an answer holds, it comes back; whatever bytes come, they are read or refused."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from yoloship.kserve import (
    InferAnswer,
    InferRequest,
    Limits,
    ProtocolError,
    Tensor,
    WantedOutput,
    decode_answer,
    decode_request,
    encode_answer,
    encode_request,
)
from yoloship.kserve.datatypes import BINARY_ONLY, BYTES, NUMPY_TYPES, from_bytes, objects

NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
SCALARS = st.one_of(
    st.text(st.characters(codec="utf-8"), max_size=9),
    st.booleans(),
    st.integers(-(2**63), 2**64),
    st.floats(allow_nan=False, allow_infinity=False),
)
PARAMETERS = st.dictionaries(NAMES.filter(lambda name: name != "binary_data_size"), SCALARS, max_size=3)


@st.composite
def tensors(draw: st.DrawFn, *, json_only: bool = False) -> Tensor:
    datatype = draw(st.sampled_from([one for one in NUMPY_TYPES if not (json_only and one in BINARY_ONLY)]))
    shape = tuple(draw(st.lists(st.integers(0, 3), max_size=4)))
    count = int(np.prod(shape))
    if datatype == BYTES:
        texts = st.text(st.characters(codec="utf-8"), max_size=5).map(str.encode)
        elements = draw(st.lists(texts if json_only else st.binary(max_size=5), min_size=count, max_size=count))
        array = objects(elements, shape)
    else:
        size = count * NUMPY_TYPES[datatype].itemsize
        data = draw(st.binary(min_size=size, max_size=size))
        if datatype == "BOOL":
            data = bytes(one & 1 for one in data)
        array = from_bytes(memoryview(data), datatype, shape, "x")
        if json_only and array.dtype.kind == "f":
            array = np.nan_to_num(array, nan=0.5)
    return Tensor(draw(NAMES), datatype, array, draw(PARAMETERS))


def unique(found: list[Tensor]) -> tuple[Tensor, ...]:
    return tuple({one.name: one for one in found}.values())


def same(found: Tensor, want: Tensor) -> None:
    assert (found.name, found.datatype, found.shape) == (want.name, want.datatype, want.shape)
    assert found.parameters == want.parameters
    if want.datatype == BYTES:
        assert found.array.tolist() == want.array.tolist()
    else:
        assert found.array.tobytes() == want.array.tobytes()


@given(
    st.lists(tensors(), max_size=3).map(unique),
    st.lists(st.builds(WantedOutput, NAMES, PARAMETERS), max_size=3, unique_by=lambda one: one.name),
    st.text(st.characters(codec="utf-8"), max_size=9),
    PARAMETERS,
)
@settings(max_examples=100, deadline=None)
def test_a_request_of_bytes_comes_back(
    inputs: tuple[Tensor, ...], outputs: list[WantedOutput], request_id: str, parameters: dict[str, Any]
) -> None:
    encoded = encode_request(InferRequest(inputs, tuple(outputs), request_id, parameters))
    found = decode_request(encoded.body, encoded.head_bytes)
    assert (found.outputs, found.id, found.parameters) == (tuple(outputs), request_id, parameters)
    for one, want in zip(found.inputs, inputs, strict=True):
        same(one, want)


@given(st.lists(tensors(json_only=True), max_size=3).map(unique), st.data())
@settings(max_examples=100, deadline=None)
def test_an_answer_comes_back_from_json_and_from_bytes(outputs: tuple[Tensor, ...], data: st.DataObject) -> None:
    binary = {one.name: data.draw(st.booleans()) for one in outputs}
    encoded = encode_answer(InferAnswer("m", outputs, "1"), lambda name: binary[name])
    for one, want in zip(decode_answer(encoded.body, encoded.head_bytes).outputs, outputs, strict=True):
        same(one, want)


VALID = encode_request(
    InferRequest((Tensor.of("x", np.arange(4, dtype=np.int16)), Tensor.of("y", ["ab", "c"])), (WantedOutput("z"),))
)


@given(
    st.lists(st.tuples(st.integers(0, len(VALID.body) - 1), st.integers(0, 255)), max_size=6),
    st.integers(0, len(VALID.body)),
    st.one_of(st.none(), st.just(VALID.head_bytes), st.integers(0, len(VALID.body) + 3)),
)
@settings(max_examples=200, deadline=None)
def test_a_damaged_request_is_read_or_refused(
    changes: list[tuple[int, int]], length: int, head_bytes: int | None
) -> None:
    body = bytearray(VALID.body)
    for place, value in changes:
        body[place] = value
    with suppress(ProtocolError):
        decode_request(bytes(body[:length] if length else body), head_bytes)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(st.text(max_size=6), inside, max_size=3),
    max_leaves=12,
)


@given(JSON, JSON, JSON, JSON, st.sampled_from([*NUMPY_TYPES, "other"]))
@settings(max_examples=200, deadline=None)
def test_any_json_in_the_place_of_any_field_is_read_or_refused(
    shape: Any, data: Any, parameters: Any, outputs: Any, datatype: str
) -> None:
    form = {"name": "x", "shape": shape, "datatype": datatype, "data": data, "parameters": parameters}
    whole = {"inputs": [form], "outputs": outputs, "parameters": parameters}
    with suppress(ProtocolError):
        decode_request(json.dumps(whole).encode(), None, Limits(elements=1000))
