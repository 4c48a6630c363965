"""Lists of sources in CSV files, as spreadsheets and other tools write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from yoloship.errors import InputError
from yoloship.sources import open_source
from yoloship.sources.csv_list import CsvList


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def given(text: str) -> list[str]:
    Path("l.csv").write_text(text, encoding="utf-8", newline="")
    with open_source(["l.csv"]) as source:
        assert type(source) is CsvList
        return [frame.name for frame in source]


@pytest.mark.parametrize(
    "text",
    [
        "source\na.png\nb c.png\n",
        "\ufeffsource\r\na.png\r\nb c.png",
        'id,"Source",more\r\n1,a.png,x\r\n2,"b c.png","a, ""b"""\r\n',
        "id;source;more\n1;a.png;x\n2;b c.png\n",
        "source\tid\na.png\t1\nb c.png\t2\n",
        "source,id\na.png,1\n,2\n\nb c.png,3\n#c.png,4\n"[:-9],
    ],
)
def test_the_column_source_is_read_and_others_are_not(text: str) -> None:
    assert given(text) == ["a.png", "b c.png"]


def test_a_name_may_contain_what_separates_cells_and_lines() -> None:
    assert given('source\n"a, ""b"".png"\n"# c.png"\n') == ['a, "b".png', "# c.png"]


@pytest.mark.parametrize("heading", ["image", "a.png", "sources,x", ""])
def test_without_the_column_it_is_refused_with_a_way_out(heading: str) -> None:
    with pytest.raises(InputError, match=r"^l.csv: has no column 'source': got .*; write source into the first line"):
        given(f"{heading}\na.png\n")


@pytest.mark.parametrize("row", ['"a.png', '"a"b.png'])
def test_broken_quotes_are_refused_with_their_line(row: str) -> None:
    with pytest.raises(InputError, match=r"^l.csv, line 3: cannot be read as CSV: "):
        given(f"source\na.png\n{row}")


def test_a_table_without_rows_names_no_images() -> None:
    with pytest.raises(InputError, match=r"^l.csv: names no images"):
        given("source\n")


def test_a_list_inside_is_refused_with_its_line() -> None:
    Path("m.txt").write_text("a.png", encoding="utf-8")
    with pytest.raises(InputError, match=r"^l.csv, line 3: another list cannot be in a list: got m.txt"):
        given("source\na.png\nm.txt\n")
