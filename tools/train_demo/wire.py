"""Writing a checkpoint in the official wire format: the class paths of the release as names, nothing else of it."""

from __future__ import annotations

import copy
import sys
import types
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import network
import torch

if TYPE_CHECKING:
    from pathlib import Path

CLASS_PATHS = {
    "models.yolo": (network.DetectionModel, network.Detect),
    "models.common": (network.Conv, network.Bottleneck, network.C3, network.SPPF, network.Concat),
}


def save_checkpoint(model: torch.nn.Module, path: Path, epoch: int = -1) -> None:
    """Save a half-precision copy as ``{"model": …, "ema": None, …}``, as a finished training leaves it.

    Args:
        model: The weights to keep: the average's. Not changed.
        path: Written whole, then renamed.
        epoch: As the format has it: −1 when training is over.
    """
    half = copy.deepcopy(model).cpu().half().eval()
    half.to(memory_format=torch.contiguous_format)
    for parameter in half.parameters():
        parameter.requires_grad_(False)
    head = half.model[-1]
    head.stride = head.stride.float()
    half.stride = half.stride.float()
    content = {
        "epoch": epoch,
        "best_fitness": None,
        "model": half,
        "ema": None,
        "updates": None,
        "optimizer": None,
        "opt": None,
        "git": None,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    part = path.with_name(path.name + ".part")
    with _Named():
        torch.save(content, part)
    part.replace(path)


class _Named:
    """While it lasts, our classes go by the names of the wire format, as pickle looks them up."""

    def __enter__(self) -> None:
        self._homes = {cls: cls.__module__ for classes in CLASS_PATHS.values() for cls in classes}
        self._taken = {name: sys.modules.get(name) for name in ("models", *CLASS_PATHS)}
        sys.modules["models"] = types.ModuleType("models")
        for name, classes in CLASS_PATHS.items():
            module = types.ModuleType(name)
            for cls in classes:
                setattr(module, cls.__name__, cls)
                cls.__module__ = name
            sys.modules[name] = module

    def __exit__(self, *_: object) -> None:
        for cls, home in self._homes.items():
            cls.__module__ = home
        for name, module in self._taken.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
