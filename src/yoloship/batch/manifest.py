"""What a batch is, written beside its parts: `Manifest`, and the list of its images.

``_yoloship.json`` says which model, options and images the parts are of, and at the end what is in them.
``_images.gz`` has the names of the images, a JSON string on each line, so that a batch that goes on does so with the
same images. Names that begin with ``_`` are passed over by what reads a folder of Parquet files.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Final

from yoloship._util.strict_json import json_document
from yoloship._util.text import counted
from yoloship._version import __version__
from yoloship.batch.listing import MAX_NAMES
from yoloship.batch.parts import FORMATS, MAX_PART_IMAGES, Counts, Format, Parts
from yoloship.errors import InputError
from yoloship.job.log import Facts, digest, refuse_others

if TYPE_CHECKING:
    from collections.abc import Sequence

    from yoloship.batch.folder import Folder

FORMAT: Final = 1
NAME: Final = "_yoloship.json"
IMAGES: Final = "_images.gz"
_OWN: Final = frozenset({NAME, IMAGES})
_MAX_BYTES: Final = 16 << 20
_MAX_LIST_BYTES: Final = 2 << 30
_ANEW: Final = "give the same command, or another folder"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a batch is.

    Attributes:
        model: The model's name, as the user gave it.
        facts: The hash of the model's file, and the options that an answer depends on.
        parts: How the images are divided.
        images_sha256: The digest of the names of the images, in their order.
        begun: When it was begun, in UTC.
        ended: When all parts were there, in UTC; empty before.
        counts: What is in the parts, once all are there.
    """

    model: str
    facts: Facts
    parts: Parts
    images_sha256: str
    begun: str = ""
    ended: str = ""
    counts: Counts | None = None

    @classmethod
    def of(cls, model: str, facts: Facts, parts: Parts, names: Sequence[str]) -> Manifest:
        """A new one, begun now."""
        return cls(model, facts, parts, digest(names), _now())

    def finished(self, counts: Counts) -> Manifest:
        """The same, ended now."""
        return replace(self, ended=_now(), counts=counts)

    def to_json(self) -> bytes:
        """The file."""
        data: dict[str, Any] = {
            "yoloship_batch": FORMAT,
            "version": self.facts.version,
            "model": self.model,
            "model_sha256": self.facts.model_sha256,
            "options": dict(self.facts.options),
            "format": self.parts.form,
            "images": self.parts.images,
            "part_images": self.parts.size,
            "parts": len(self.parts),
            "images_sha256": self.images_sha256,
            "begun": self.begun,
        }
        if self.counts is not None:
            data |= {"ended": self.ended, "failed": self.counts.failed, "objects": self.counts.objects}
        return json_document(data)

    @classmethod
    def from_json(cls, data: bytes, subject: str) -> Manifest:
        """Read the file.

        Raises:
            InputError: it is not the manifest of a batch, or one of another version.
        """
        try:
            record = json.loads(data)
            if record["yoloship_batch"] != FORMAT:
                raise InputError("is of another version", subject=subject, expected=f"format {FORMAT}",
                                 got=f"format {record['yoloship_batch']}"[:40], hint=_ANEW)  # fmt: skip
            texts = [record[key] for key in ("version", "model", "model_sha256", "images_sha256", "begun")]
            numbers = [record["images"], record["part_images"]]
            form: Format = record["format"]
            options = record["options"]
            is_right = (
                all(isinstance(one, str) for one in texts)
                and all(isinstance(one, int) and not isinstance(one, bool) for one in numbers)
                and 1 <= record["images"] <= MAX_NAMES
                and 1 <= record["part_images"] <= MAX_PART_IMAGES
                and form in FORMATS
                and isinstance(options, dict)
            )
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise InputError("is not the manifest of a batch, or is damaged", subject=subject, hint=_ANEW) from error
        if not is_right:
            raise InputError("is not the manifest of a batch, or is damaged", subject=subject, hint=_ANEW)
        version, model, model_sha256, images_sha256, begun = texts
        ended = record.get("ended")
        return cls(
            model, Facts(model_sha256, options, {}, version), Parts(numbers[0], numbers[1], form), images_sha256, begun,
            ended if isinstance(ended, str) else "",
        )  # fmt: skip


def read_manifest(folder: Folder) -> Manifest | None:
    """The manifest in a folder; None if the folder is empty or absent.

    Raises:
        InputError: the folder has something else.
        OutputError: it cannot be read.
    """
    data = folder.read(NAME, _MAX_BYTES)
    if data is not None:
        return Manifest.from_json(data, folder.name_of(NAME))
    others = sorted(set(folder.names()) - _OWN)
    if others:
        raise InputError(
            "is not empty, and not the folder of a batch", subject=folder.subject, got=", ".join(others[:3])[:200],
            hint="give a new folder",
        )  # fmt: skip
    return None


def begin(folder: Folder, manifest: Manifest, names: Sequence[str]) -> None:
    """Write the list of images, and then the manifest.

    Raises:
        OutputError: they cannot be written.
    """
    text = "".join(f"{json.dumps(name)}\n" for name in names).encode()
    packer = zlib.compressobj(6, wbits=31)
    folder.write(IMAGES, packer.compress(text) + packer.flush())
    folder.write(NAME, manifest.to_json())


def read_names(folder: Folder, manifest: Manifest) -> list[str]:
    """The images of a batch that was begun.

    Raises:
        InputError: the list is missing, or is not the one of the manifest.
        OutputError: it cannot be read.
    """
    data = folder.read(IMAGES, _MAX_LIST_BYTES)
    subject = folder.name_of(IMAGES)
    try:
        names = [] if data is None else _unpacked(data)
    except (ValueError, zlib.error, RecursionError) as error:
        raise InputError("is damaged", subject=subject, hint="start over in another folder") from error
    if len(names) != manifest.parts.images or digest(names) != manifest.images_sha256:
        raise InputError(
            "was changed or removed since the batch was started", subject=subject,
            expected=counted(manifest.parts.images, "name"), got=str(len(names)), hint="start over in another folder",
        )  # fmt: skip
    return names


def check_same(before: Manifest, now: Manifest, folder: Folder) -> None:
    """Refuse to go on with another model, other options, another format or other parts.

    Raises:
        InputError: the message names the first difference.
    """
    subject = folder.name_of(NAME)
    if before.parts.form != now.parts.form:
        raise InputError("the batch was started with another format", subject=subject,
                         expected=f"--format {before.parts.form}", got=now.parts.form, hint=_ANEW)  # fmt: skip
    if before.facts.version != now.facts.version:
        raise InputError(
            "the batch was started with another version of yoloship", subject=subject,
            expected=before.facts.version[:40], got=__version__, hint="install that version, or give another folder",
        )  # fmt: skip
    refuse_others(before.facts, now.facts, subject, _ANEW)


def unlike(folder: Folder, parts: Parts) -> tuple[set[int], list[str]]:
    """The numbers of the parts that are there, and the names of what is not part of the batch.

    Raises:
        OutputError: the folder cannot be listed.
    """
    numbers: set[int] = set()
    others: list[str] = []
    for name in folder.names():
        number = parts.number(name)
        if number is not None:
            numbers.add(number)
        elif name not in _OWN:
            others.append(name)
    return numbers, sorted(others)


def _unpacked(data: bytes) -> list[str]:
    unpacker = zlib.decompressobj(wbits=31)
    text = unpacker.decompress(data, _MAX_LIST_BYTES)
    if unpacker.unconsumed_tail or not unpacker.eof:
        raise ValueError("too long, or cut")
    names = [json.loads(line) for line in text.splitlines()]
    if not all(isinstance(name, str) for name in names):
        raise ValueError("not a name")
    digest(names)  # raises UnicodeEncodeError, a ValueError, for what no file system has
    return names


def _now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
