"""Reads an HTML page strictly: every element is closed, and what it could load or run is listed."""

from __future__ import annotations

from html.parser import HTMLParser

__all__ = ["Page"]

VOID = frozenset({"br", "input", "meta", "img", "link", "hr"})
LOADS = frozenset({"src", "href", "xlink:href", "action", "formaction", "data", "poster", "srcset", "background"})


class Page(HTMLParser):
    """A page that was read.

    Attributes:
        tags: The names of all elements.
        addresses: The values of attributes that name something to load or to follow.
        handlers: Attributes that hold scripts.
        ids: All ids, in order.
        words: The text outside of styles.
    """

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: set[str] = set()
        self.addresses: list[str] = []
        self.handlers: list[str] = []
        self.ids: list[str] = []
        self.words = ""
        self._open: list[str] = []
        assert html.startswith("<!DOCTYPE html>\n<html")
        self.feed(html)
        self.close()
        assert self._open == [], f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            if name in LOADS:
                self.addresses.append(value or "")
            if name.startswith("on"):
                self.handlers.append(name)
            if name == "id":
                self.ids.append(value or "")
            if name == "style":
                assert "url(" not in (value or "").lower()
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"{tag} was never opened"
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "style":
            assert "@import" not in data
            assert "url(" not in data
        else:
            self.words += data
