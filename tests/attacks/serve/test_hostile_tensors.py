"""Hostile requests of KServe's protocol on a real socket. Nothing is a 500, and nothing ends the server or leaks."""

from __future__ import annotations

import json
import random
import resource
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from helpers.serving import HW, Said, listening, segment_model, settings_of, talk
from yoloship.kserve import InferRequest, Tensor, WantedOutput, encode_request
from yoloship.serve.settings import RequestLimits

if TYPE_CHECKING:
    from collections.abc import Iterator

INFER = "/v2/models/seg/infer"
LIMITS = RequestLimits(max_body_bytes=4 << 20, max_images=3, head_timeout_s=2.0, body_timeout_s=2.0)
EXPECTED = frozenset({200, 400, 404, 405, 408, 413, 415, 429, 504})
SEED = 20261128
IMAGES = np.random.default_rng(1).random((1, 3, *HW)).astype(np.float32)
INPUT = {"name": "images", "shape": [1, 3, *HW], "datatype": "FP32"}
ASKED = InferRequest((Tensor.of("images", IMAGES),), (WantedOutput("output1", {"binary_data": True}),), "7")
BINARY, JSON = encode_request(ASKED), encode_request(ASKED, binary=False)
RAW = IMAGES.tobytes()


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with listening(settings_of(segment_model(tmp_path_factory.mktemp("models")), LIMITS)) as found:
        yield found


def request(body: bytes, head_bytes: object = None, *, path: str = INFER) -> bytes:
    length = "" if head_bytes is None else f"Inference-Header-Content-Length: {head_bytes}\r\n"
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{length}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def refused(port: int, body: bytes, head_bytes: object = None) -> str:
    """The one line that refuses a request."""
    said = talk(port, request(body, head_bytes))
    assert said.status == 400, said
    text: str = json.loads(said.body)["error"]
    assert "\n" not in text
    assert len(text) < 700
    return text


def is_right(port: int) -> bool:
    return talk(port, request(BINARY.body, BINARY.head_bytes)).status == 200


def is_harmless(said: Said, also: frozenset[int] = frozenset()) -> None:
    assert said.status in EXPECTED | also, said
    assert b"Traceback" not in said.body
    assert b'File "' not in said.body


@pytest.mark.parametrize(
    ("whole", "head_bytes"), [(BINARY.body, BINARY.head_bytes), (JSON.body, None)], ids=["bytes", "JSON"]
)
def test_damaged_bodies_get_an_answer_without_a_traceback(port: int, whole: bytes, head_bytes: int | None) -> None:
    chance = random.Random(SEED)
    near = head_bytes or 400
    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(chance.randint(1, 6)):
            at = chance.randrange(min(near, len(damaged)))
            what = chance.randrange(5)
            if what == 0:
                damaged[at] = chance.randrange(256)
            elif what == 1:
                del damaged[at : at + chance.randint(1, 20)]
            elif what == 2:
                damaged[at:at] = chance.randbytes(chance.randint(1, 20))
            elif what == 3:
                damaged[at:at] = chance.choice([b"9" * 30, b"-1", b"NaN", b"[", b'"', b"null", b"1e999", b"\xff"])
            else:
                del damaged[max(chance.randrange(len(damaged)), 1) :]
        is_harmless(talk(port, request(bytes(damaged), head_bytes)))
    assert is_right(port)


def test_damaged_heads_of_requests_do_not_end_the_server(port: int) -> None:
    chance = random.Random(SEED)
    whole = request(BINARY.body, BINARY.head_bytes)
    end = whole.index(b"\r\n\r\n")
    for _ in range(80):
        damaged = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            damaged[chance.randrange(end)] = chance.randrange(256)
        is_harmless(talk(port, bytes(damaged), 0.05), frozenset({0}))
    assert is_right(port)


VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1, 2**31, 2**62, 2**64, 10**40, 1.5, 1e308, "", "images", "FP32", "BYTES", "\ud800", "\u202e",
    [], [-1], [0],
    [2**62, 4], [1, 3, 64, 64], [1] * 9, [[1]], [None], ["a"], [2**20, 2**20], {}, {"binary_data_size": 1},
    {"binary_data_size": 2**62}, {"binary_data_size": -1}, {"binary_data": True}, {"shared_memory_region": "a"},
    {"classification": 3}, {"a": []},
)  # fmt: skip


def test_any_value_in_any_field_is_answered(port: int) -> None:
    chance = random.Random(SEED)
    for _ in range(300):
        form: dict[str, Any] = {**INPUT, "parameters": {"binary_data_size": len(RAW)}}
        whole: dict[str, Any] = {"id": "1", "inputs": [form], "outputs": [{"name": "output0"}], "parameters": {}}
        for _ in range(chance.randint(1, 3)):
            place = chance.choice([form, form, form, whole, whole["outputs"][0] if whole["outputs"] else whole])
            if isinstance(place, dict):
                place[chance.choice([*place, "data", "new"])] = chance.choice(VALUES)
            if not (isinstance(whole.get("outputs"), list) and whole["outputs"]):
                break
        head = json.dumps(whole).encode()
        is_harmless(talk(port, request(head + RAW, len(head))))
    assert is_right(port)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"shape": [2**62, 4]}, "shape is not a list of extents"),
        ({"shape": [2**15, 2**15, 2]}, "too many elements"),
        ({"shape": [-1, 3, 64, 64]}, "shape is not a list of extents"),
        ({"shape": [0, 3, 64, 64], "parameters": {"binary_data_size": 0}}, "there are bytes after the tensors"),
        ({"datatype": "FP64"}, "expected 98304 bytes, got 49152"),
        ({"datatype": "FLOAT"}, "no such datatype"),
        ({"name": "x"}, "expected images, got x"),
        ({"parameters": {"binary_data_size": 2**62}}, "not a number of bytes that are left"),
        ({"parameters": {"binary_data_size": 4}}, "expected 49152 bytes, got 4"),
        ({"parameters": {"shared_memory_region": "/dev/shm/x"}}, "data or bytes .* got shared_memory_region"),
        ({"shape": [1, 3, 128, 32]}, "wrong shape"),
    ],
)
def test_shapes_sizes_and_names_that_lie_are_refused_by_name(port: int, changes: dict[str, Any], words: str) -> None:
    import re

    form = {**INPUT, "parameters": {"binary_data_size": len(RAW)}, **changes}
    head = json.dumps({"inputs": [form]}).encode()
    assert re.search(words, refused(port, head + RAW, len(head)))


@pytest.mark.parametrize("head_bytes", ["", "-1", "0", "1e3", "99999999999", "9" * 40, "0x10", "1, 2", "NaN"])
def test_a_length_of_the_json_that_lies_is_refused(port: int, head_bytes: str) -> None:
    assert "Inference-Header-Content-Length" in refused(port, BINARY.body, head_bytes) or int(head_bytes) > 0


def test_names_that_are_there_twice_are_refused(port: int) -> None:
    form = {**INPUT, "parameters": {"binary_data_size": len(RAW)}}
    head = json.dumps({"inputs": [form, form]}).encode()
    assert "inputs: a name appears twice" in refused(port, head + RAW * 2, len(head))
    assert "a key appears twice" in refused(port, b'{"inputs": [], "inputs": []}')


def test_numbers_that_json_does_not_have_are_refused(port: int) -> None:
    values = ["0.5"] * (3 * HW[0] * HW[1])
    for word in ("NaN", "Infinity", "1e999", "1e39", '"1"', "true", "null", "9" * 5000):
        values[7] = word
        body = f'{{"inputs": [{json.dumps(INPUT)[:-1]}, "data": [{",".join(values)}]}}]}}'.encode()
        refused(port, body)


def test_not_a_number_in_the_images_is_the_clients_own_affair(port: int) -> None:
    head = json.dumps({"inputs": [{**INPUT, "parameters": {"binary_data_size": len(RAW)}}]}).encode()
    nan = struct.pack("<f", float("nan")) * (len(RAW) // 4)
    assert "NaN or infinity, which JSON cannot express" in refused(port, head + nan, len(head))


def test_json_that_would_fill_the_memory_is_refused_before_it_is_read(port: int) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for inside in (b"[]," * 1_300_000, b"{}," * 1_300_000, b"[" * 4_000_000, b'{"a":' * 800_000):
        assert refused(port, b'{"inputs":[' + inside)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown * 1024 < 200 << 20
    assert is_right(port)


@pytest.mark.parametrize("name", ["..", "%2e%2e", "..%2fseg", "seg%00", "SEG", "a" * 3000, "%ff", "seg;x"])
def test_no_name_of_a_model_is_a_path(port: int, name: str) -> None:
    for path in (f"/v2/models/{name}/infer", f"/v2/models/seg/versions/{name}/infer"):
        said = talk(port, request(BINARY.body, BINARY.head_bytes, path=path))
        assert said.status == 404
        assert isinstance(json.loads(said.body)["error"], str)


def test_a_body_that_is_cut_short_costs_nothing(port: int) -> None:
    whole = request(BINARY.body, BINARY.head_bytes)
    for length in (len(whole) - 1, len(whole) // 2, whole.index(b"\r\n\r\n") + 4):
        assert talk(port, whole[:length], leaves=True).status in {0, 400, 408}
    assert is_right(port)
