from __future__ import annotations

import pytest

from helpers import forge
from yoloship.checkpoint.limits import LIMITS, Limits
from yoloship.checkpoint.machine import Machine
from yoloship.errors import CheckpointError, InputError


def run(data: bytes, limits: Limits = LIMITS) -> object:
    return Machine(data, 0, limits, "best.pt").run()


@pytest.mark.parametrize(
    ("limits", "data", "message"),
    [
        (Limits(opcodes=10), b"N0" * 10 + b".", "pickle of more than 10 instructions"),
        (Limits(pickle_bytes=10), b"N0" * 10 + b".", "pickle of more than 10 bytes"),
        (Limits(string_bytes=3), forge.text("four"), "string of 4 bytes is over the limit of 3"),
        (Limits(text_bytes=6), forge.text("four") * 2, "strings of more than 6 bytes together"),
        (Limits(integer_bytes=4), forge.integer(1 << 40), "integer of 6 bytes is over the limit of 4"),
        (Limits(key_chars=3), b"}" + forge.text("four") + b"Ns", "dictionary key of more than 3 characters"),
        (Limits(plain_keys=1), b"}K\x01NsK\x02Ns", "more than 1 dictionary keys that are not strings"),
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
