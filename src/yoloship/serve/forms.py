"""The files of a form (multipart/form-data), read from memory within limits."""

from __future__ import annotations

from typing import Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from yoloship.serve.errors import BodyError

_MAX_BOUNDARY_BYTES: Final = 200
_MAX_HEADER_BYTES: Final = 2048


class _Parts:
    """Collects the parts that the parser finds: the head of each as a dictionary, and its content."""

    def __init__(self, max_parts: int) -> None:
        self.found: list[tuple[dict[bytes, bytes], bytearray]] = []
        self._max_parts = max_parts
        self._field, self._value, self._head_bytes = bytearray(), bytearray(), 0
        self.is_whole = False

    def begin(self) -> None:
        if len(self.found) >= self._max_parts:
            raise BodyError("the form has too many parts", 413, expected=f"at most {self._max_parts}")
        self._head_bytes = 0
        self.found.append(({}, bytearray()))

    def data(self, chunk: bytes, start: int, end: int) -> None:
        self.found[-1][1].extend(memoryview(chunk)[start:end])

    def field(self, chunk: bytes, start: int, end: int) -> None:
        self._grow(end - start)
        self._field += chunk[start:end]

    def value(self, chunk: bytes, start: int, end: int) -> None:
        self._grow(end - start)
        self._value += chunk[start:end]

    def header_end(self) -> None:
        self.found[-1][0][bytes(self._field).lower()] = bytes(self._value)
        self._field, self._value = bytearray(), bytearray()

    def end(self) -> None:
        self.is_whole = True

    def _grow(self, size_bytes: int) -> None:
        self._head_bytes += size_bytes
        if self._head_bytes > _MAX_HEADER_BYTES:
            raise BodyError("the header of a part is too long", 413, expected=f"at most {_MAX_HEADER_BYTES} bytes")


def files_of_form(content_type: str, body: bytes, *, max_parts: int) -> list[tuple[str, bytes]]:
    """The name and the bytes of each file, in their order. The names of the fields do not matter.

    Args:
        content_type: Of the request, with the boundary.
        body: The form.
        max_parts: Most parts.

    Raises:
        BodyError: it is damaged or cut short, has too many parts, or a field that is not a file.
    """
    _, options = parse_options_header(content_type.encode("latin-1", "replace"))
    boundary = options.get(b"boundary", b"")
    if not 0 < len(boundary) <= _MAX_BOUNDARY_BYTES:
        raise BodyError("the form has no usable boundary", expected="multipart/form-data; boundary=…")
    parts = _Parts(max_parts)
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": parts.begin,
                "on_part_data": parts.data,
                "on_header_field": parts.field,
                "on_header_value": parts.value,
                "on_header_end": parts.header_end,
                "on_end": parts.end,
            },
        )
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise BodyError("is not a valid form", got=str(error)[:100]) from error
    if not parts.is_whole:
        raise BodyError("the form is cut short", expected="the closing boundary")
    files = []
    for head, data in parts.found:
        _, disposition = parse_options_header(head.get(b"content-disposition", b""))
        if b"filename" not in disposition:
            field = disposition.get(b"name", b"")[:60].decode("utf-8", "replace")
            raise BodyError(
                "a field of the form is not a file",
                expected="images only; thresholds go into the query",
                got=repr(field),
            )
        files.append((disposition[b"filename"].decode("utf-8", "replace"), bytes(data)))
    return files
