"""The network among a file's contents, out of whatever stands around it.

Training and hub code put a network into others that pass its answers on unchanged: for several GPUs, for an average
of the weights, for pre- and post-processing. Each is known by its class, and taken off only if it holds nothing else
that could change an answer.

Source: class paths and attribute names seen in files that torch 1.5 to 2.13 and YOLOv5 v1 to v7 wrote.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from yoloship._util.words import counted
from yoloship.checkpoint.drafts import Draft
from yoloship.checkpoint.records import Tensor
from yoloship.checkpoint.reparametrized import FORWARD_HOOKS
from yoloship.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping

MODELS = ("ema", "model")
_WHOLE_MODEL = (
    "give the .pt that the training saved (best.pt), or save the whole model: torch.save({'model': model}, path)"
)
_MAX_WRAPPERS = 8


class _Wrapper(NamedTuple):
    """A class whose forward is that of its child.

    Attributes:
        path: What its class path must match.
        child: Name of the child; None for the only one, whatever its name.
        buffers: What it may have of its own.
    """

    path: re.Pattern[str]
    child: str | None
    buffers: frozenset[str] = frozenset()


_WRAPPERS = (
    _Wrapper(re.compile(r"(?:[A-Za-z_]\w*\.)*models\.common\.([aA]utoShape|DetectMultiBackend)"), "model"),
    _Wrapper(re.compile(r"ultralytics\.nn\.autobackend\.AutoBackend"), "model"),
    _Wrapper(
        re.compile(r"torch\.nn\.parallel\.(data_parallel\.DataParallel|distributed\.DistributedDataParallel)"), "module"
    ),
    _Wrapper(re.compile(r"apex\.parallel\.distributed\.DistributedDataParallel"), "module"),
    _Wrapper(re.compile(r"torch\.optim\.swa_utils\.AveragedModel"), "module", frozenset({"n_averaged"})),
    _Wrapper(re.compile(r"torch\._dynamo\.eval_frame\.OptimizedModule"), "_orig_mod"),
    _Wrapper(re.compile(r"(?:[A-Za-z_]\w*\.)*models\.experimental\.Ensemble"), None),
)
_AVERAGE = re.compile(r"(?:[A-Za-z_]\w*\.)*(ModelEMA|ModelEma)")
"""Objects that are not modules and keep the averaged network as their attribute `ema`."""


class Chosen(NamedTuple):
    """The network of a file.

    Attributes:
        key: Where it stood: ``ema`` or ``model``.
        draft: The network itself.
        others: The file's whole table; empty if the file is the network alone.
        names: Class names that stood around it, nearest first.
    """

    key: str
    draft: Draft
    others: Mapping[object, object]
    names: tuple[object, ...]


_CHANGES = (*FORWARD_HOOKS, "forward", "_call_impl", "_wrapped_call_impl", "_slow_forward")
"""What changes the computation of a wrapper that has it."""


def choose(content: object, subject: str) -> Chosen:
    """Find the network of a file.

    Args:
        content: What the pickle gives.
        subject: The file's name, for messages.

    Raises:
        CheckpointError: there is none, several share the work, or what stands around it is not understood.
    """
    if isinstance(content, Draft):
        return _unwrapped("model", content, {}, subject)
    if not isinstance(content, dict):
        raise CheckpointError("holds no model", subject=subject, got=f"a {_kind(content)}", hint=_WHOLE_MODEL)
    for key in MODELS:
        candidate = content.get(key)
        if isinstance(candidate, tuple) and candidate:  # (model, number of updates), as some releases save the average
            candidate = candidate[0]
        if isinstance(candidate, Draft):
            return _unwrapped(key, candidate, content, subject)
        if key == "ema" and _has_weights(candidate) and isinstance(content.get("model"), Draft):
            raise CheckpointError(
                f"holds averaged weights under {key!r} that are not a model, beside a model of other weights",
                subject=subject,
                hint="load them into the model and save it alone: torch.save({'model': model}, path)",
            )
    for key in ("", *MODELS, "state_dict", "model_state_dict"):
        table = content.get(key) if key else content
        if isinstance(table, dict) and (count := sum(isinstance(value, Tensor) for value in table.values())):
            where = f" under {key!r}" if key else ""
            raise CheckpointError(
                f"holds weights without an architecture (a state_dict of {counted(count, 'tensor')}{where})",
                subject=subject,
                hint=_WHOLE_MODEL,
            )
    if (place := _elsewhere(content)) is not None:
        raise CheckpointError(
            f"holds a model under {place}, rather than under 'model' or 'ema'",
            subject=subject,
            hint=f"save it again: torch.save({{'model': torch.load(path, weights_only=False){place}}}, path)",
        )
    keys = ", ".join(repr(key)[:40] for key in list(content)[:8]) or "nothing"
    raise CheckpointError("holds no model", subject=subject, got=f"a dictionary of {keys}", hint=_WHOLE_MODEL)


def _has_weights(value: object) -> bool:
    return isinstance(value, dict) and any(isinstance(one, Tensor | Draft) for one in value.values())


def _elsewhere(content: Mapping[object, object]) -> str | None:
    """Keys under which a module stands that is not where it is looked for, as Python writes them."""
    seen: set[int] = set()  # one table may stand under any number of keys
    for key, value in content.items():
        inner = value.items() if isinstance(value, dict) and id(value) not in seen else ()
        seen.add(id(value))
        for keys, found in (((key,), value), *(((key, below), one) for below, one in inner)):
            state = found.state if isinstance(found, Draft) else None
            if isinstance(state, dict) and _modules(state) and all(isinstance(one, str) for one in keys):
                return "".join(f"[{str(one)[:40]!r}]" for one in keys)
    return None


def _kind(content: object) -> str:
    return {list: "list", tuple: "tuple", str: "text", Tensor: "tensor"}.get(type(content), "plain value")


def _unwrapped(key: str, draft: Draft, others: Mapping[object, object], subject: str) -> Chosen:
    names: list[object] = [others["names"]] if "names" in others else []
    for _ in range(_MAX_WRAPPERS):
        state = draft.state if isinstance(draft.state, dict) else {}
        inner = _average(draft, state) or _wrapped(draft, state, subject)
        if inner is None:
            return Chosen(key, draft, others, tuple(names))
        if state.get("names") is not None:
            names.insert(0, state["names"])
        draft = inner
    raise CheckpointError(f"has its model inside more than {_MAX_WRAPPERS} others", subject=subject)


def _average(draft: Draft, state: Mapping[object, object]) -> Draft | None:
    inner = state.get("ema")
    return inner if isinstance(inner, Draft) and _AVERAGE.fullmatch(draft.class_path) and not _modules(state) else None


def _modules(state: Mapping[object, object]) -> Mapping[object, object]:
    children = state.get("_modules")
    return children if isinstance(children, dict) else {}


def _wrapped(draft: Draft, state: Mapping[object, object], subject: str) -> Draft | None:
    """What is inside a wrapper; None if this is not one."""
    wrapper = next((one for one in _WRAPPERS if one.path.fullmatch(draft.class_path)), None)
    if wrapper is None:
        return None
    children = {name: child for name, child in _modules(state).items() if child is not None}
    if wrapper.child is None and len(children) > 1:
        raise CheckpointError(
            f"holds an ensemble of {len(children)} models, whose boxes are merged",
            subject=subject,
            hint="export each model on its own: torch.save({'model': ensemble[0]}, path)",
        )
    name = wrapper.child if wrapper.child is not None else next(iter(children), None)
    inner = children.pop(name, None)
    more = [*children, *_filled(state, "_parameters"), *(_filled(state, "_buffers") - wrapper.buffers)]
    if not isinstance(inner, Draft) or more or draft.odd or any(state.get(name) for name in _CHANGES):
        got = "hooks or a replaced method"
        if more:
            got = f"also {str(more[0])[:40]!r} in it"
        elif inner is None:
            got = f"no model as its {name!r}"
        raise CheckpointError(
            f"holds a {draft.class_path!r} that is not only a wrapper around a model",
            subject=subject,
            got=got,
            hint="save the model inside it: torch.save({'model': model}, path)",
        )
    return inner


def _filled(state: Mapping[object, object], name: str) -> set[object]:
    table = state.get(name)
    return {key for key, value in table.items() if value is not None} if isinstance(table, dict) else set()
