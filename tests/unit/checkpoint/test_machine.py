"""The opcode interpreter on streams that Python's own pickle writes, and on values that only torch writes."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st

from helpers import forge
from yoloship.checkpoint.drafts import Draft, OddKey
from yoloship.checkpoint.limits import LIMITS, Limits
from yoloship.checkpoint.machine import Machine
from yoloship.errors import CheckpointError


def run(data: bytes, limits: Limits = LIMITS) -> object:
    return Machine(data, 0, limits, "best.pt").run()


keys = st.one_of(st.text(st.characters(exclude_categories=["Cs"])), st.integers(-(1 << 63), (1 << 63) - 1))


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
