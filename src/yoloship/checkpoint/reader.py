"""`read_checkpoint`: from a file's bytes to a `Checkpoint`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from yoloship.checkpoint.drafts import Draft
from yoloship.checkpoint.finish import Finisher
from yoloship.checkpoint.legacy_container import read_legacy
from yoloship.checkpoint.limits import LIMITS
from yoloship.checkpoint.machine import Machine
from yoloship.checkpoint.persistent import StorageTable
from yoloship.checkpoint.records import Checkpoint, Module, Tensor
from yoloship.checkpoint.source import Source, open_source
from yoloship.checkpoint.traits import read_class_names, read_strides, read_task
from yoloship.checkpoint.zip_container import ZipContainer
from yoloship.errors import CheckpointError
from yoloship.kinds import HEAD_BYTES, ZIP_MAGIC, kind_of, wrong_kind

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from yoloship.checkpoint.limits import Limits

_MODELS = ("ema", "model")
_LEFT_OUT = frozenset({*_MODELS, "optimizer"})
_WRAPPERS = frozenset({"DataParallel", "DistributedDataParallel"})
_WHOLE_MODEL = (
    "give the .pt that the training saved (best.pt), or save the whole model: torch.save({'model': model}, path)"
)


def read_checkpoint(source: Path | str | bytes) -> Checkpoint:
    """Read a trained YOLOv5 checkpoint as data: nothing in it is imported, called or run.

    Args:
        source: A file's path, or the file's bytes. A file is mapped and read as its tensors are asked for; it stays
            mapped as long as the checkpoint, one of its records or one of their arrays lives.

    Returns:
        The model and what the file says about it. Both of torch's containers are read: the zip file of torch 1.6 and
        later, and the older one.

    Raises:
        CheckpointError: whatever else the bytes are.
    """
    return read_with_limits(source, LIMITS)


def read_with_limits(source: Path | str | bytes, limits: Limits) -> Checkpoint:
    """`read_checkpoint` under other limits than the usual ones."""
    with open_source(source, limits) as opened:
        content = _read_content(opened, limits)
        finisher = Finisher(opened.name, limits)
        key, draft, others = _choose(content, opened.name)
        module = _unwrap(finisher.module(draft, key))
        task = read_task(module, opened.name)
        return Checkpoint(
            name=opened.name,
            module=module,
            source_key=key,
            task=task,
            class_names=read_class_names(module, opened.name, limits),
            strides=read_strides(module, task, opened.name),
            metadata=finisher.plain_table(others, _LEFT_OUT),
            sha256=opened.sha256(),  # last: what is refused need not be hashed
        )


def _read_content(opened: Source, limits: Limits) -> object:
    head = bytes(opened.data[:HEAD_BYTES])
    kind = kind_of(head)
    if kind != "checkpoint":
        raise wrong_kind(kind, "checkpoint", subject=opened.name, error=CheckpointError, start=head)
    if head.startswith(ZIP_MAGIC):
        return _read_zip(opened, limits)
    return read_legacy(opened.data, opened.name, limits, StorageTable(opened.name, None))


def _read_zip(opened: Source, limits: Limits) -> object:
    container = ZipContainer(opened.data, opened.name, limits)
    roots = [name.removesuffix("data.pkl") for name in container.names if f"/{name}".endswith("/data.pkl")]
    if len(roots) > 1:
        raise CheckpointError(f"zip with {len(roots)} data.pkl", subject=opened.name, hint="give one checkpoint")
    if any(name.endswith(("/constants.pkl", ".ptc")) or "/code/" in name for name in container.names):
        raise CheckpointError(
            "is a TorchScript archive, not a checkpoint",
            subject=opened.name,
            hint="give the .pt of the training that it was exported from",
        )
    if not roots:
        raise CheckpointError(
            "is a zip without data.pkl, not a checkpoint", subject=opened.name, hint="if it is packed, unpack it first"
        )
    root = roots[0]
    order = container.get(f"{root}byteorder")
    if order is not None and (order.nbytes > 16 or bytes(order.read()).strip() != b"little"):
        raise CheckpointError(
            "written on a big-endian machine", subject=opened.name, hint="save it again on a little-endian one"
        )
    piece = container.get(f"{root}data.pkl")
    if piece is None or piece.nbytes > limits.pickle_bytes:
        raise CheckpointError(f"its data.pkl is over the limit of {limits.pickle_bytes} bytes", subject=opened.name)
    storages = StorageTable(opened.name, lambda key: container.get(f"{root}data/{key}"))
    return Machine(bytes(piece.read()), 0, limits, opened.name, storages.find).run()


def _choose(content: object, name: str) -> tuple[str, Draft, Mapping[object, object]]:
    """The model among a file's contents, its key, and the rest."""
    if isinstance(content, Draft):
        return "model", content, {}
    if not isinstance(content, dict):
        raise CheckpointError("holds no model", subject=name, got=f"a {_kind(content)}", hint=_WHOLE_MODEL)
    for key in _MODELS:
        candidate = content.get(key)
        if isinstance(candidate, tuple) and candidate:  # (model, number of updates), as some releases save the average
            candidate = candidate[0]
        if isinstance(candidate, Draft):
            return key, candidate, content
    for key in ("", *_MODELS, "state_dict", "model_state_dict"):
        table = content.get(key) if key else content
        if isinstance(table, dict) and (count := sum(isinstance(value, Tensor) for value in table.values())):
            where = f" under {key!r}" if key else ""
            raise CheckpointError(
                f"holds weights without an architecture (a state_dict of {count} tensors{where})",
                subject=name,
                hint=_WHOLE_MODEL,
            )
    keys = ", ".join(repr(key)[:40] for key in list(content)[:8]) or "nothing"
    raise CheckpointError("holds no model", subject=name, got=f"a dictionary of {keys}", hint=_WHOLE_MODEL)


def _kind(content: object) -> str:
    return {list: "list", tuple: "tuple", str: "text", Tensor: "tensor"}.get(type(content), "plain value")


def _unwrap(module: Module) -> Module:
    """The model inside the wrapper that training on several GPUs puts around it."""
    inner = module.children.get("module")
    return inner if module.class_name in _WRAPPERS and inner is not None else module
