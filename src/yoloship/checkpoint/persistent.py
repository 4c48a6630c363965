"""The storages that a pickle mentions by persistent id, each once, checked against what the file really holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from yoloship.checkpoint.drafts import Context, Draft, Global
from yoloship.checkpoint.storages import NUMPY_DTYPES, STORAGE_DTYPES, LazyStorage

if TYPE_CHECKING:
    from collections.abc import Callable

    from yoloship.checkpoint.storages import Piece


class StorageTable:
    """Answers persistent ids: ``("storage", class, key, location, length)``, in legacy files with a view behind it.

    Args:
        subject: The file's name, for messages.
        locate: Finds a storage's bytes by its key, None where there are none; None where the container tells later.
    """

    def __init__(self, subject: str, locate: Callable[[str], Piece | None] | None) -> None:
        self._subject = subject
        self._locate = locate
        self._storages: dict[str, LazyStorage] = {}

    def find(self, context: Context, persistent_id: object) -> LazyStorage | Global | Draft:
        """The storage of a persistent id; the class of ``("module", class, file, source)``.

        A storage whose elements are of a type unknown here becomes an inert draft. The legacy format writes the class
        where it first mentions a class of a module; the source text beside it is nothing but a string here.

        Raises:
            CheckpointError: the id is none of torch's, or the file has no such storage or a shorter one.
        """
        match persistent_id:
            case ("module", Global() as kind, _, _):
                return kind
        if not isinstance(persistent_id, tuple) or not 5 <= len(persistent_id) <= 6 or persistent_id[0] != "storage":
            raise context.refuse("persistent id that is not a storage")
        kind, key, length = persistent_id[1], persistent_id[2], persistent_id[4]
        if len(persistent_id) == 6 and persistent_id[5] is not None:
            raise context.refuse("view of a storage, as torch before 0.4 wrote,")
        if type(key) is int:
            key = str(key)
        if not isinstance(kind, Global) or type(key) is not str or len(key) > context.limits.name_chars:
            raise context.refuse("persistent id without a storage class and a key")
        dtype = STORAGE_DTYPES.get(kind.class_path)
        if dtype is None and self._locate is None:  # where the next storage begins depends on this one's size
            raise context.refuse(f"storage of {kind.class_path!r}, which is not read here,")
        if dtype is None:
            return Draft(kind.class_path, foreign=True)
        if type(length) is not int or not 0 <= length <= context.limits.tensor_elements:
            raise context.refuse("storage of an impossible length")
        known = self._storages.get(key)
        if known is not None and (known.dtype, known.length) == (dtype, length):
            return known
        storage = self._new(context, key, LazyStorage(dtype, length, None, subject=f"{self._subject}: storage {key}"))
        if known is None:
            self._storages[key] = storage
        return storage

    def _new(self, context: Context, key: str, storage: LazyStorage) -> LazyStorage:
        nbytes = storage.length * NUMPY_DTYPES[storage.dtype].itemsize
        if self._locate is None:
            if key in self._storages:
                raise context.refuse(f"storage {key!r} with two types or lengths")
            return storage
        piece = self._locate(key)
        if piece is None:
            raise context.refuse(f"storage {key!r} is not in the file, but wanted")
        if piece.nbytes < nbytes:
            raise context.refuse(f"storage {key!r} claims {nbytes} bytes, the file holds {piece.nbytes},")
        storage.piece = piece
        return storage

    def by_key(self, key: str) -> LazyStorage | None:
        """The storage that the pickle mentioned under this key."""
        return self._storages.get(key)

    def give(self, key: str, piece: Piece) -> None:
        """Say where a storage's bytes are."""
        self._storages[key].piece = piece

    def missing(self) -> str | None:
        """The key of a storage that has no bytes yet."""
        return next((key for key, storage in self._storages.items() if storage.piece is None and storage.length), None)
