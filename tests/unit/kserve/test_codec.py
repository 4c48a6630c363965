"""Requests and answers as bytes, in both directions."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from yoloship.kserve.codec import (
    decode_answer,
    decode_request,
    encode_answer,
    encode_request,
    head_length,
)
from yoloship.kserve.failures import ProtocolError
from yoloship.kserve.tensors import InferAnswer, InferRequest, Limits, Tensor, WantedOutput

X = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
ONE = {"name": "x", "shape": [2], "datatype": "INT8", "data": [1, 2]}


def request(**changes: Any) -> bytes:
    return json.dumps({"inputs": [ONE], **changes}).encode()


def test_the_bytes_of_a_request_are_those_of_the_extension() -> None:
    encoded = encode_request(InferRequest((Tensor.of("x", X), Tensor.of("y", ["ab"])), id="7"))
    head = (
        b'{"id":"7","inputs":[{"name":"x","shape":[1,2,3],"datatype":"FP32","parameters":{"binary_data_size":24}},'
        b'{"name":"y","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":6}}]}'
    )
    assert encoded.body == head + X.tobytes() + b"\2\0\0\0ab"
    assert encoded.headers == {
        "Content-Type": "application/octet-stream",
        "Inference-Header-Content-Length": str(len(head)),
    }


def test_the_json_of_an_answer_is_that_of_the_protocol() -> None:
    answer = InferAnswer("cat", (Tensor.of("y", X),), "1", "7", {"a": True})
    encoded = encode_answer(answer, lambda _: False)
    assert encoded.headers == {"Content-Type": "application/json"}
    assert json.loads(encoded.body) == {
        "model_name": "cat",
        "model_version": "1",
        "id": "7",
        "parameters": {"a": True},
        "outputs": [{"name": "y", "shape": [1, 2, 3], "datatype": "FP32", "data": [0, 1, 2, 3, 4, 5]}],
    }


def test_one_answer_may_have_outputs_of_both_kinds() -> None:
    answer = InferAnswer("cat", (Tensor.of("a", X), Tensor.of("b", X + 1), Tensor.of("c", X + 2)))
    encoded = encode_answer(answer, lambda name: name != "b")
    found = decode_answer(encoded.body, encoded.head_bytes)
    assert [one.array.tolist() for one in found.outputs] == [X.tolist(), (X + 1).tolist(), (X + 2).tolist()]
    assert b'"name":"b","shape":[1,2,3],"datatype":"FP32","data":[1.0,' in encoded.body


@pytest.mark.parametrize("binary", [True, False])
def test_a_request_comes_back_whole(binary: bool) -> None:
    given = InferRequest(
        (Tensor("x", "FP32", X, {"k": "v"}), Tensor.of("y", ["a", "bcd"])),
        (WantedOutput("z", {"binary_data": False}), WantedOutput("w")),
        "id-1",
        {"timeout": 5, "f": 0.5},
    )
    encoded = encode_request(given, binary=binary)
    found = decode_request(encoded.body, encoded.head_bytes)
    assert (found.outputs, found.id, found.parameters) == (given.outputs, given.id, given.parameters)
    for one, want in zip(found.inputs, given.inputs, strict=True):
        assert (one.name, one.datatype, one.parameters) == (want.name, want.datatype, want.parameters)
        np.testing.assert_array_equal(one.array, want.array)


def test_tensors_of_a_request_are_views_of_its_body() -> None:
    encoded = encode_request(InferRequest((Tensor.of("x", np.zeros((4, 4), np.uint8)),)))
    body = np.frombuffer(encoded.body, np.uint8)
    assert np.shares_memory(decode_request(encoded.body, encoded.head_bytes).inputs[0].array, body)


def test_a_request_of_no_inputs_that_says_so_is_one() -> None:
    assert decode_request(b'{"inputs": []}').inputs == ()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "the JSON is not valid"),
        (b"{}", "inputs: is not a list of objects: got nothing"),
        (b'{"inputs": {}}', "inputs: is not a list of objects: got dict"),
        (b'{"inputs": [5]}', "inputs: is not a list of objects: got something else in it"),
        (request(outputs=5), "outputs: is not a list of objects: got int"),
        (request(extra=1), "the request: has a field that the protocol does not have: expected .* got 'extra'"),
        (request(inputs=[{**ONE, "dtype": 1}]), "x: has a field that the protocol does not have"),
        (request(outputs=[{"name": "y", "shape": [1]}]), r"outputs\[0\]: has a field"),
        (request(outputs=[{"name": ""}]), r"outputs\[0\]: name is not a text: expected 1 to 1000 characters, got ''"),
        (request(outputs=[{"name": "y"}] * 2), "outputs: a name appears twice: got 'y'"),
        (request(inputs=[ONE, ONE]), "inputs: a name appears twice: got 'x'"),
        (request(inputs=[{**ONE, "name": None}]), r"inputs\[0\]: name is not a text"),
        (request(inputs=[{**ONE, "name": "x" * 1001}]), r"inputs\[0\]: name is not a text"),
        (request(inputs=[{**ONE, "datatype": "FLOAT"}]), "x: there is no such datatype: expected BOOL, .* got 'FLOAT'"),
        (request(inputs=[{**ONE, "datatype": []}]), "no such datatype"),
        (request(inputs=[{**ONE, "shape": None}]), "x: shape is not a list of extents"),
        (request(inputs=[{**ONE, "shape": [-1]}]), "shape is not a list of extents"),
        (request(inputs=[{**ONE, "shape": [True]}]), "shape is not a list of extents"),
        (request(inputs=[{**ONE, "shape": [2.0]}]), "shape is not a list of extents"),
        (request(inputs=[{**ONE, "shape": [2**62, 4]}]), "shape is not a list of extents"),
        (request(inputs=[{**ONE, "shape": [2**20, 2**20]}]), "x: the tensor has too many elements"),
        (request(inputs=[{**ONE, "shape": [0, 2**20, 2**20]}]), "x: the tensor has too many elements"),
        (request(inputs=[{**ONE, "shape": [1] * 9}]), "x: shape has too many extents: expected at most 8, got 9"),
        (request(inputs=[{**ONE, "datatype": "BYTES", "shape": [200_000]}]), "whole numbers, 0 to 100,000"),
        (request(inputs=[{"name": "x", "shape": [2], "datatype": "INT8"}]), "either data or bytes .* got none"),
        (
            request(inputs=[{**ONE, "parameters": {"binary_data_size": 2}}]),
            "x: a tensor has either data or bytes after the JSON: .* got both",
        ),
        (request(inputs=[{**ONE, "parameters": []}]), r"parameters: is not an object: got \[\]"),
        (request(parameters={"a": None}), "the parameter 'a' is not a text, a number, true or false: got None"),
        (request(parameters={"a": "x" * 1001}), "the parameter 'a' is not a text"),
        (request(parameters={str(n): n for n in range(33)}), "too many parameters: expected at most 32, got 33"),
        (request(id=5), "id: is not a text"),
        (request(inputs=[{**ONE, "name": str(n)} for n in range(65)]), "too many inputs: expected at most 64, got 65"),
    ],
)
def test_a_body_that_does_not_follow_the_protocol_is_refused_in_one_line(body: bytes, words: str) -> None:
    with pytest.raises(ProtocolError, match=words) as caught:
        decode_request(body)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def binary_request(size: Any, rest: bytes, shape: object = (2,)) -> tuple[bytes, int]:
    form = {"name": "x", "shape": shape, "datatype": "INT8", "parameters": {"binary_data_size": size}}
    head = json.dumps({"inputs": [form]}).encode()
    return head + rest, len(head)


@pytest.mark.parametrize(
    ("size", "rest", "words"),
    [
        (2, b"a", "x: binary_data_size is not a number of bytes that are left: expected 0 to 1, got 2"),
        (-1, b"ab", "got -1"),
        (2.0, b"ab", "got 2.0"),
        (True, b"ab", "got True"),
        ("2", b"ab", "got '2'"),
        (2**70, b"ab", "expected 0 to 2"),
        (1, b"a", r"x: the bytes of the tensor are not those of INT8\[2\]: expected 2 bytes, got 1"),
        (2, b"abc", "there are bytes after the tensors: expected as many as binary_data_size says, got 1 more"),
    ],
)
def test_bytes_that_do_not_fit_their_tensor_are_refused(size: Any, rest: bytes, words: str) -> None:
    body, head_bytes = binary_request(size, rest)
    with pytest.raises(ProtocolError, match=words):
        decode_request(body, head_bytes)


@pytest.mark.parametrize("head_bytes", [0, 1000])
def test_a_head_that_is_not_within_the_body_is_refused(head_bytes: int) -> None:
    with pytest.raises(ProtocolError, match=rf"Content-Length: is not within the body: .* got {head_bytes}$"):
        decode_request(request(), head_bytes)


def test_bytes_behind_a_head_of_json_tensors_are_refused() -> None:
    with pytest.raises(ProtocolError, match="there are bytes after the tensors"):
        decode_request(request() + b"more", len(request()))


@pytest.mark.parametrize("text", ["", "-1", "1.5", "1e3", " 5", "٣", "9" * 19, "5, 5"])
def test_a_header_that_is_not_a_number_of_bytes_is_refused(text: str) -> None:
    with pytest.raises(ProtocolError, match="is not a number of bytes"):
        head_length(text)


def test_a_header_of_a_number_is_read() -> None:
    assert (head_length(None), head_length("12")) == (None, 12)


def test_a_body_is_no_longer_than_allowed() -> None:
    with pytest.raises(ProtocolError, match="the body is too long: expected at most 10 bytes, got 77 bytes"):
        decode_request(request(), limits=Limits(body_bytes=10))
    with pytest.raises(ProtocolError, match="the JSON in front of the tensors is too long"):
        decode_request(request(), len(request()), Limits(head_bytes=10))


def test_an_answer_that_does_not_follow_the_protocol_is_refused() -> None:
    with pytest.raises(ProtocolError, match="the answer: has a field"):
        decode_answer(b'{"inputs": []}')
    with pytest.raises(ProtocolError, match="outputs: is not a list of objects: got nothing"):
        decode_answer(b'{"model_name": "m"}')


def test_a_parameter_that_json_does_not_have_is_not_sent() -> None:
    with pytest.raises(ProtocolError, match="a parameter cannot be expressed in JSON"):
        encode_request(InferRequest((), parameters={"a": float("nan")}))


def test_control_characters_of_names_are_escaped_on_the_way_out() -> None:
    encoded = encode_answer(InferAnswer("m\u202e", ()), lambda _: False)
    assert b"\\u202e" in encoded.body
    assert decode_answer(encoded.body).model_name == "m\u202e"
