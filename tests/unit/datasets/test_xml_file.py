from __future__ import annotations

import random
from contextlib import suppress

import pytest

from yoloship.datasets.xml_file import MAX_ELEMENTS, Element, parse_xml
from yoloship.errors import InputError


def parse(text: str | bytes) -> Element:
    return parse_xml(text.encode() if isinstance(text, str) else text, subject="a.xml")


def test_elements_have_names_texts_children_and_lines() -> None:
    root = parse('<?xml version="1.0"?>\n<a>\n <b x="1"> one &amp; two </b>\n <b>three</b><c/></a>')
    assert (root.name, root.line) == ("a", 2)
    assert [(child.name, child.text, child.line) for child in root.children] == [
        ("b", "one & two", 3), ("b", "three", 4), ("c", "", 4),
    ]  # fmt: skip
    assert root.text_of("b") == "one & two"
    assert root.text_of("d") == ""


def test_other_encodings_are_read() -> None:
    assert parse('<?xml version="1.0" encoding="latin-1"?><a>é</a>'.encode("latin-1")).text == "é"
    assert parse("<a>é</a>".encode("utf-16")).text == "é"


@pytest.mark.parametrize(
    "text",
    [
        '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>\n<a>&x;</a>',
        '<!DOCTYPE a [<!ENTITY x "y"><!ENTITY z "&x;&x;">]>\n<a>&z;</a>',
        '<!DOCTYPE a SYSTEM "http://example.com/a.dtd"><a/>',
        "<!DOCTYPE a><a/>",
    ],
)
def test_a_document_type_is_refused_before_anything_of_it_is_read(text: str) -> None:
    with pytest.raises(InputError, match=r"a\.xml, line 1: has a document type declaration"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "line 1: is not XML: got no element found"),
        ("<a>\n<b></a>", "line 2: is not XML: got mismatched tag"),
        ("<a>&x;</a>", "undefined entity"),
        ("<a/><b/>", "junk after document element"),
        ('<?xml version="1.0" encoding="nonsense"?><a/>', "is not XML"),
        ("<a>" * 21, "line 1: is nested too deeply: expected at most 20 levels"),
        ("<a>" + "x" * 10_001 + "</a>", "has too much text in <a>"),
        ("<a>" + "<b/>" * (MAX_ELEMENTS + 1), "has too many elements"),
    ],
)
def test_what_is_not_small_plain_xml_is_refused(text: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        parse(text)


def test_random_text_gives_elements_or_an_error_of_ours() -> None:
    source = random.Random(7)
    pieces = [
        "<a>",
        "</a>",
        "<b/>",
        "<",
        ">",
        "&amp;",
        "&x;",
        "<!",
        "<![CDATA[",
        "]]>",
        "<?",
        "?>",
        "--",
        "é",
        "\0",
        "<!DOCTYPE",
        '"',
        "=",
    ]
    for _ in range(3000):
        with suppress(InputError):
            assert isinstance(parse("".join(source.choices(pieces, k=source.randrange(20)))), Element)
