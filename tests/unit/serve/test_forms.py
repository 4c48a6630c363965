"""Forms of files, sound and hostile."""

from __future__ import annotations

import pytest

from yoloship.serve.errors import BodyError
from yoloship.serve.forms import files_of_form

TYPE = "multipart/form-data; boundary=XX"


def form(*parts: tuple[str, bytes], end: bytes = b"--XX--\r\n") -> bytes:
    heads = (b"--XX\r\nContent-Disposition: form-data; " + head.encode() + b"\r\n\r\n" + data for head, data in parts)
    return b"".join(head + b"\r\n" for head in heads) + end


def test_files_come_in_their_order_with_their_names() -> None:
    body = form(('name="a"; filename="a.jpg"', b"1\r\n2"), ('name="a"; filename="b.jpg"', b""))
    assert files_of_form(TYPE, body, max_parts=2) == [("a.jpg", b"1\r\n2"), ("b.jpg", b"")]


@pytest.mark.parametrize(
    ("kind", "body", "words"),
    [
        (TYPE, form(('name="conf"', b"0.5")), "a field of the form is not a file: .*, got 'conf'"),
        (TYPE, form(*[('filename="a"', b"")] * 3), "too many parts: expected at most 2"),
        (TYPE, form(('filename="a"', b"1"), end=b""), "cut short"),
        (TYPE, form(('filename="' + "a" * 2050 + '"', b"1")), "header of a part is too long"),
        (TYPE, b"nothing like a form", "not a valid form"),
        (TYPE, b"--XX\r\n\xff\xff: a\r\n\r\n", "not a valid form|cut short"),
        ("multipart/form-data", form(), "no usable boundary"),
        (f"multipart/form-data; boundary={'X' * 300}", form(), "no usable boundary"),
        (TYPE, b"", "cut short"),
    ],
)
def test_a_form_that_is_not_one_of_files_is_refused(kind: str, body: bytes, words: str) -> None:
    with pytest.raises(BodyError, match=words):
        files_of_form(kind, body, max_parts=2)
