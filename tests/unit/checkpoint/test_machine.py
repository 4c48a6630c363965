"""The opcode interpreter on streams that Python's own pickle writes, and on values that only torch writes."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import forge
from yoloship.checkpoint.drafts import Draft, OddKey
from yoloship.checkpoint.limits import LIMITS, Limits
from yoloship.checkpoint.machine import Machine
from yoloship.errors import CheckpointError, InputError


def run(data: bytes, limits: Limits = LIMITS) -> object:
    return Machine(data, 0, limits, "best.pt").run()


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 200), 1 << 200),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.binary(),
)
keys = st.one_of(st.text(st.characters(exclude_categories=["Cs"])), st.integers(-(1 << 63), (1 << 63) - 1))
values: st.SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner), st.dictionaries(keys, inner), st.tuples(inner, inner), st.frozensets(keys), st.sets(keys)
    ),
    max_leaves=20,
)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@settings(max_examples=40, deadline=None)
@given(value=values)
def test_plain_values_come_back_as_pickle_wrote_them(protocol: int, value: object) -> None:
    assert run(pickle.dumps(value, protocol)) == value


@pytest.mark.parametrize("protocol", [0, 1])
def test_values_of_the_text_protocols_come_back(protocol: int) -> None:
    value = {"a": [1, 2.5, None, True, -(1 << 70)], "b": ("x", {"y": False})}
    assert run(pickle.dumps(value, protocol)) == value


def test_a_python_2_stream_is_read() -> None:
    assert run(b"(dp0\nS'a'\np1\nI1\nsS'b'\nL3L\nsU\x01cF1.5\ns.") == {"a": 1, "b": 3, "c": 1.5}


def test_the_position_behind_the_stream_is_kept() -> None:
    machine = Machine(forge.end(forge.NONE) + b"rest", 0, LIMITS, "best.pt")
    assert machine.run() is None
    assert machine.position == 4


def test_lone_surrogates_become_replacement_characters() -> None:
    assert run(forge.end(forge.text("a\ud800b"))) == "a\ufffdb"


def test_bound_methods_stay_names_and_leave_their_owner_out() -> None:
    owner = forge.instance("models.common.Conv")
    draft = run(forge.end(forge.call("__builtin__.getattr", owner, forge.text("forward_fuse"))))
    assert isinstance(draft, Draft)
    assert (draft.class_path, draft.arguments) == ("__builtin__.getattr", ("models.common.Conv", "forward_fuse"))


def test_old_style_instances_are_drafts() -> None:
    made = run(b"ccopy_reg\n_reconstructor\n(cmodels.yolo\nModel\nc__builtin__\nobject\nNtR}b.")
    assert isinstance(made, Draft)
    assert made.class_path == "models.yolo.Model"
    for code in (b"(imodels.yolo\nModel\n.", b"(cmodels.yolo\nModel\no."):
        made = run(code)
        assert isinstance(made, Draft)


@pytest.mark.parametrize("key", [b"]", b")", b"(K\x01K\x02t", b"cmodels.x\nY\n)\x81"])
def test_keys_that_are_not_plain_are_kept_apart_by_their_identity(key: bytes) -> None:
    table = run(b"}(" + key + b"K\x01" + key + b"K\x02u.")
    assert isinstance(table, dict)
    assert [type(one) for one in table] == [OddKey, OddKey]
    assert list(table.values()) == [1, 2]
    members = run(b"\x8f(" + key + b"\x90.")
    assert isinstance(members, set)
    assert [type(one) for one in members] == [OddKey]


ODD = {
    "a call": (b"cmypkg\nf\n(K\x01tR", "was made by a call"),
    "a call of an admitted class": (b"cmodels.x\nY\n)R", "was made by a call"),
    "a call of what a call gave": (b"cdill._dill\n_create_type\n)R)R", "was made by a call"),
    "named arguments": (b"cmypkg\nY\n)}(" + forge.text("a") + b"Nu\x92", "was made from named arguments"),
    "items": (b"cmypkg\nY\n)\x81(K\x01K\x02e", "was given items"),
    "an item": (b"cmypkg\nY\n)\x81K\x01a", "was given items"),
    "keys": (b"cmypkg\nY\n)\x81(K\x01K\x02u", "was given keys"),
    "a key": (b"cmypkg\nY\n)\x81K\x01K\x02s", "was given keys"),
    "members": (b"cmypkg\nY\n)\x81(K\x01\x90", "was given members"),
    "a second state": (b"cmypkg\nY\n)\x81}b}b", "was given its state twice"),
    "an old base": (
        b"ccopyreg\n_reconstructor\n(cmypkg\nY\nc__builtin__\ndict\n}tR",
        "derives from a class of plain data",
    ),
}


@pytest.mark.parametrize("name", ODD)
def test_what_an_object_of_plain_state_does_not_do_is_remembered(name: str) -> None:
    code, odd = ODD[name]
    draft = run(code + b".")
    assert isinstance(draft, Draft)
    assert draft.odd == odd


@pytest.mark.parametrize(
    "code",
    [
        b"cmypkg\nY\n)\x81",
        b"(imypkg\nY\n",
        b"(cmypkg\nY\no",
        b"cmypkg\nY\n)}\x92",
        b"\x82\x07)\x81",
        b"\x83\x07\x00)\x81",
        b"\x84\x07\x00\x00\x00)\x81",
        b"ccopyreg\n__newobj__\n(cmypkg\nY\ntR",
    ],
)
def test_an_instance_of_an_unknown_class_is_inert_however_it_is_written(code: bytes) -> None:
    draft = run(code + b".")
    assert isinstance(draft, Draft)
    assert draft.foreign
    assert draft.odd is None
    assert draft.class_path in {"mypkg.Y", "copyreg.extension_7"}


REFUSED = {
    "unknown opcode": (b"\x80\x02\xff.", "pickle instruction 0xff is not admitted at byte 2"),
    "buffer": (b"\x80\x05\x97.", "pickle instruction 0x97 is not admitted at byte 2"),
    "text persistent id": (b"P123\n.", "pickle instruction 0x50 is not admitted at byte 0"),
    "protocol": (b"\x80\x09N.", "pickle of protocol 9, newer than 5, at byte 0"),
    "underflow": (b"\x80\x02a.", "pickle that takes more than there is at byte 2"),
    "no mark": (b"\x80\x02t.", "pickle without the mark that it goes back to at byte 2"),
    "memo": (b"\x80\x02h\x05.", "memo entry 5 that was never written at byte 2"),
    "memo index": (b"Np99999999999999999999\n.", "memo entry of an impossible index at byte 1"),
    "huge key": (b"}" + forge.integer(1 << 64) + b"Ns.", "dictionary key of more than 64 bits at byte 13"),
    "append to a tuple": (b")Na.", "items for something that is not a list at byte 2"),
    "set on a list": (b"]NNs.", "keys for something that is not a dictionary at byte 3"),
    "odd items": (b"}(Nu.", "key without a value at byte 3"),
    "members of a list": (b"](N\x90.", "members for something that is not a set at byte 3"),
    "state of a list": (b"]}b.", "state for something that takes none at byte 2"),
    "call of text": (forge.text("f") + b")R.", "call of something that is not a global at byte 7"),
    "arguments": (b"ccollections\nOrderedDict\n]R.", "call of 'collections.OrderedDict' without a tuple of arguments"),
    "named arguments": (b"cbuiltins\nlist\n)}(NNu\x92.", "instance with named arguments at byte 21"),
    "arguments that are no table": (b"cmodels.yolo\nModel\n)]\x92.", "instance with named arguments at byte 21"),
    "storage": (b"NQ.", "storage where none belongs at byte 1"),
    "integer line": (b"Iabc\n.", "line that is not an integer at byte 0"),
    "float line": (b"Fabc\n.", "line that is not a number at byte 0"),
    "long line": (b"I" + b"1" * 5000 + b"\n.", "line of more than 4096 bytes at byte 0"),
    "utf-8": (b"X\x01\x00\x00\x00\xff.", "text that is not UTF-8 at byte 0"),
    "global without text": (b"NN\x93.", "global whose name is not text at byte 2"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_damaged_stream_is_refused_where_it_fails(name: str) -> None:
    data, message = REFUSED[name]
    with pytest.raises(CheckpointError) as caught:
        run(data)
    assert message in str(caught.value)
    assert str(caught.value).startswith("best.pt: ")
    assert str(caught.value).endswith("nothing was executed")


def test_a_stream_cut_at_any_byte_is_refused() -> None:
    whole = forge.checkpoint(ints=forge.integers([1, 1 << 40]), name=forge.text("x"), f=forge.number(1.0))
    for stop in range(len(whole)):
        with pytest.raises(CheckpointError):
            run(whole[:stop])


@pytest.mark.parametrize(
    ("limits", "data", "message"),
    [
        (Limits(opcodes=10), b"N0" * 10 + b".", "pickle of more than 10 instructions"),
        (Limits(pickle_bytes=10), b"N0" * 10 + b".", "pickle of more than 10 bytes"),
        (Limits(string_bytes=3), forge.text("four"), "string of 4 bytes is over the limit of 3"),
        (Limits(text_bytes=6), forge.text("four") * 2, "strings of more than 6 bytes together"),
        (Limits(integer_bytes=4), forge.integer(1 << 40), "integer of 6 bytes is over the limit of 4"),
        (Limits(key_chars=3), b"}" + forge.text("four") + b"Ns", "dictionary key of more than 3 characters"),
        (Limits(plain_keys=1), b"}K\x01NsK\x02Ns", "more than 1 dictionary keys that are no strings"),
        (
            Limits(copied_items=3),
            forge.call("_codecs.encode", forge.text("four"), forge.text("latin1")),
            "pickle that copies more than 3 items",
        ),
    ],
)
def test_each_limit_is_enforced(limits: Limits, data: bytes, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        run(data, limits)


def test_a_limit_must_be_a_positive_integer() -> None:
    with pytest.raises(InputError, match="opcodes: is not a limit: expected a positive integer, got 0"):
        Limits(opcodes=0)
