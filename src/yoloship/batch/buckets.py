"""Files in object stores, such as ``s3://photos/2026/``: `open_bucket`, through pyarrow or fsspec.

Credentials come from where the store's own tools take them: the environment, a profile, the machine's role. An address
with a password in it is refused, because addresses are in every row of the results.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from yoloship.errors import DependencyError, InputError, OutputError, YoloshipError

if TYPE_CHECKING:
    from collections.abc import Iterator

ARROW_SCHEMES: Final = frozenset({"s3", "gs", "gcs", "abfs", "abfss", "hdfs"})
"""Stores that pyarrow reads itself."""
FSSPEC_SCHEMES: Final = frozenset({"az", "adl", "hf", "oss", "oci"})
"""Stores that a package of fsspec reads. Other schemes of fsspec chain or run things, and are refused."""
_ADDRESS: Final = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]+)://(?P<place>[^?]*)(?P<query>\?.*)?", re.DOTALL)
_REFUSED: Final = ("ACCESS_DENIED", "INVALID_ACCESS_KEY", "SIGNATURE", "CREDENTIAL", "UNAUTHORIZED", "FORBIDDEN")
_UNREACHABLE: Final = ("NETWORK_CONNECTION", "COULDN'T CONNECT", "COULD NOT CONNECT", "COULDN'T RESOLVE", "TIMEOUT")
_SHOWN_CHARS: Final = 200


@dataclass(frozen=True, slots=True)
class Address:
    """An address in an object store.

    Attributes:
        scheme: ``s3``.
        place: ``bucket/folder/a.jpg``, without a slash at its end.
        query: How the store is reached, as pyarrow has it: ``?region=eu-central-1``; empty for its defaults.
    """

    scheme: str
    place: str
    query: str = ""

    @property
    def bucket(self) -> str:
        """``s3://bucket``."""
        return f"{self.scheme}://{self.place.partition('/')[0]}"

    @property
    def name(self) -> str:
        """The address without its query."""
        return f"{self.scheme}://{self.place}"


def is_address(text: str) -> bool:
    """Whether a text is an address of an object store that is known here."""
    match = _ADDRESS.fullmatch(text)
    return match is not None and match["scheme"] in ARROW_SCHEMES | FSSPEC_SCHEMES


def parse(text: str) -> Address:
    """The parts of an address.

    Raises:
        InputError: it is not one, has no bucket, or has a password.
    """
    match = _ADDRESS.fullmatch(text)
    if match is None or not is_address(text):
        raise InputError(
            "is not an address of an object store", subject=text[:_SHOWN_CHARS],
            expected=", ".join(f"{scheme}://" for scheme in sorted(ARROW_SCHEMES | FSSPEC_SCHEMES)),
        )  # fmt: skip
    place = match["place"].rstrip("/")
    bucket = place.partition("/")[0]
    if "@" in bucket and match["scheme"] not in {"abfs", "abfss", "hdfs"}:  # there it is the container's account
        raise InputError(
            "has credentials, which would appear in every row", subject=f"{match['scheme']}://…@…",
            hint="give them in environment variables, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        )  # fmt: skip
    if not bucket:
        raise InputError("has no bucket", subject=text, expected=f"{match['scheme']}://BUCKET/FOLDER")
    return Address(match["scheme"], place, match["query"] or "")


def _opened(bucket: str, query: str) -> Any:
    """The filesystem of a bucket."""
    library()
    from pyarrow import fs

    scheme = bucket.partition("://")[0]
    if scheme in ARROW_SCHEMES:
        return fs.FileSystem.from_uri(bucket + query)[0]
    try:
        import fsspec
    except ImportError as error:
        raise DependencyError("fsspec is not installed", subject=bucket, hint="pip install fsspec") from error
    try:
        return fs.PyFileSystem(fs.FSSpecHandler(fsspec.filesystem(scheme)))
    except (ImportError, ValueError) as error:
        said = " ".join(str(error).split())[:_SHOWN_CHARS]
        raise DependencyError(f"needs another package: {said}", subject=bucket) from error


def library() -> Any:
    """The package pyarrow.

    Raises:
        DependencyError: it is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.fs
        import pyarrow.parquet
    except ImportError as error:
        raise DependencyError(
            "pyarrow is not installed", hint="pip install 'yoloship[parquet]', or give --format jsonl and local folders"
        ) from error
    return pa


class Bucket:
    """A part of an object store that is open.

    Args:
        address: Where.
        writes: Whether it is an output, for the class of its errors.
    """

    def __init__(self, address: Address, *, writes: bool = False) -> None:
        self.address, self._writes = address, writes
        with self.errors(address.bucket):
            self.filesystem = _opened(address.bucket, address.query)

    @contextmanager
    def errors(self, subject: str) -> Iterator[None]:
        """Turn the errors of the store into ours, with one line each.

        Raises:
            InputError, or OutputError for an output: anything that the store says.
        """
        try:
            yield
        except YoloshipError:
            raise
        except (OSError, ValueError, NotImplementedError) as error:  # pyarrow's own are among them
            raise _explained(error, subject, self._writes) from error

    def infos(self, place: str, *, recursive: bool) -> list[Any]:
        """What is in a folder, as pyarrow has it: nothing if there is no such folder in the bucket.

        Raises:
            YoloshipError: the store says no, or there is no such bucket.
        """
        from pyarrow import fs

        with self.errors(f"{self.address.scheme}://{place}"):
            found: list[Any] = self.filesystem.get_file_info(
                fs.FileSelector(place, recursive=recursive, allow_not_found=True)
            )
            root = place.partition("/")[0]
            if not found and self.filesystem.get_file_info(root).type == fs.FileType.NotFound:
                raise FileNotFoundError(root)
        return found

    def is_file(self, place: str) -> bool:
        """Whether there is a file.

        Raises:
            YoloshipError: the store says no.
        """
        from pyarrow import fs

        with self.errors(f"{self.address.scheme}://{place}"):
            kind = self.filesystem.get_file_info(place).type
        return bool(kind == fs.FileType.File)

    def read(self, place: str, limit_bytes: int) -> bytes | None:
        """The bytes of a file; None if there is none.

        Raises:
            YoloshipError: the store says no, or the file is longer than the limit.
        """
        subject = f"{self.address.scheme}://{place}"
        with self.errors(subject):
            try:
                with self.filesystem.open_input_file(place) as file:
                    size = file.size()
                    if size > limit_bytes:
                        raise InputError(
                            "is too large", subject=subject, expected=f"at most {limit_bytes:,} bytes", got=f"{size:,}"
                        )
                    data: bytes = file.read(size)
            except FileNotFoundError:
                return None
        return data

    def write(self, place: str, data: bytes) -> None:
        """Write a file in one piece: stores show it when it is whole, or not at all.

        Raises:
            OutputError: the store says no.
        """
        with self.errors(f"{self.address.scheme}://{place}"):
            stream = self.filesystem.open_output_stream(place, compression=None)  # else it packs a .gz once more
            stream.write(data)  # if this fails, the stream is not closed: closing would publish what it has
            stream.close()


def _explained(error: Exception, subject: str, writes: bool) -> YoloshipError:
    said = " ".join(str(error).split())
    upper = said.upper()
    kind = OutputError if writes else InputError
    if isinstance(error, FileNotFoundError) or "NO_SUCH_BUCKET" in upper or "BUCKET DOES NOT EXIST" in upper:
        return kind("does not exist", subject=subject, hint="check the name of the bucket")
    if any(word in upper for word in _REFUSED):
        return kind("access was refused", subject=subject, hint="check the credentials of this process and its nodes")
    if any(word in upper for word in _UNREACHABLE):
        return kind("the store cannot be reached", subject=subject, hint="check the network, region and endpoint")
    return kind(f"the store says: {said[:_SHOWN_CHARS]}", subject=subject)
