"""Files that hold weights without an architecture (a state_dict): finds the tensors, and says what they look like.

Only a ResNet is recognised (`yoloship.checkpoint.resnet_weights`), because its tensors' names and shapes say how it is
built. For other networks they do not, so these are refused by name.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from yoloship._util.text import counted
from yoloship.checkpoint.records import Tensor
from yoloship.checkpoint.resnet_weights import NotAResNetError, resnet_draft
from yoloship.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from yoloship.checkpoint.drafts import Draft

_KEYS: Final = (
    "state_dict_ema", "model_ema", "ema_state_dict", "ema",
    "state_dict", "model_state_dict", "model", "net", "network", "weights", "params", "module",
)  # fmt: skip
"""Where people put a state_dict inside a file, averaged weights first."""
_PREFIXES: Final = ("module", "model", "backbone", "_orig_mod", "net", "network", "resnet")
"""Names that wrappers put before each tensor's name."""
_BESIDE: Final = frozenset({"n_averaged", "total_ops", "total_params"})
"""Tensors of wrappers and profilers that are not part of a network."""
WHOLE_MODEL: Final = (
    "give the .pt that the training saved (best.pt), or save the whole model: torch.save({'model': model}, path)"
)
_MAX_PREFIXES: Final = 8
_SHOWN: Final = 4

_KINDS: Final = (
    (re.compile(r"model\.\d+\.(?:conv|cv\d|m)\b|\d+\.(?:conv|cv\d)\.(?:conv|weight)"), "a YOLO network"),
    (re.compile(r".*\b(?:patch_embed|cls_token|pos_embed|encoder\.layers\.encoder_layer)"), "a vision transformer"),
    (re.compile(r"(?:rpn|roi_heads|backbone\.(?:body|fpn))\."), "a detector of torchvision"),
    (re.compile(r"features\.denseblock|features\.conv0"), "a DenseNet"),
    (re.compile(r"features\.\d+\.(?:block|\d)"), "a MobileNet, EfficientNet or ConvNeXt of torchvision"),
    (re.compile(r"features\.\d+\.weight"), "a VGG or AlexNet"),
    (re.compile(r"(?:conv_stem|blocks\.\d)"), "an EfficientNet or MobileNet of timm"),
    (re.compile(r"stages\.\d|stem\."), "a network of timm with stages"),
    (re.compile(r"Conv2d_|Mixed_|inception"), "an Inception network"),
    (re.compile(r".*(?:attention|self_attn|embeddings)"), "a transformer"),
)  # fmt: skip
"""What a network is, by the beginning of its first tensors' names."""


class Weights(NamedTuple):
    """A state_dict.

    Attributes:
        key: Its key in the file; empty if it is the file's whole content.
        tensors: By name, without the prefixes of wrappers.
    """

    key: str
    tensors: Mapping[str, Tensor]


def weights_of(content: Mapping[object, object]) -> Weights | None:
    """The state_dict of a file; None if it has none.

    Args:
        content: The object in the pickle.
    """
    tables = [(key, _tensors(content.get(key) if key else content)) for key in ("", *_KEYS)]
    for key, tensors in tables:
        if sum("." in name for name in tensors) > len(tensors) // 2:
            return Weights(key, MappingProxyType(_without_prefixes(tensors)))
    return next((Weights(key, MappingProxyType(tensors)) for key, tensors in tables if tensors), None)


def _tensors(table: object) -> dict[str, Tensor]:
    if not isinstance(table, dict):
        return {}
    return {
        name: value
        for name, value in table.items()
        if isinstance(name, str) and isinstance(value, Tensor) and name not in _BESIDE
    }


def network_of(weights: Weights, subject: str) -> Draft:
    """The network that a state_dict belongs to, as if it had been saved whole.

    Raises:
        CheckpointError: its architecture is not known; the message says what it looks like.
    """
    where = f" under {weights.key!r}" if weights.key else ""
    holds = f"holds weights without an architecture (a state_dict of {counted(len(weights.tensors), 'tensor')}{where})"
    try:
        return resnet_draft(weights.tensors)
    except NotAResNetError as reason:
        likeness = "like a ResNet" if reason.near else f"like {_looks_like(weights.tensors)}"
        raise CheckpointError(
            f"{holds}, which look {likeness}",
            subject=subject,
            expected="a ResNet, the only architecture that can be recognised from its tensors",
            got=str(reason),
            hint=WHOLE_MODEL,
        ) from None


def _without_prefixes(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors without the names of wrappers that all of them begin with."""
    for _ in range(_MAX_PREFIXES):
        heads = {name.partition(".")[0] for name in tensors}
        if len(heads) != 1 or not heads.issubset(_PREFIXES):
            break
        tensors = {name.partition(".")[2]: tensor for name, tensor in tensors.items()}
    return tensors


def _looks_like(tensors: Mapping[str, Tensor]) -> str:
    for pattern, kind in _KINDS:
        if any(pattern.match(name) for name in tensors):
            return kind
    return f"another network ({', '.join(_first(tensors))}, …)"


def _first(tensors: Mapping[str, Tensor]) -> Iterator[str]:
    for name, _ in zip(tensors, range(_SHOWN), strict=False):
        yield name[:60]
