"""Options of YOLOv5's and Ultralytics' own tools that have another name here: what to write instead."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_MODEL: Final = "Give the model as the first argument, without an option."
_SOURCE: Final = "Give the sources after the model, without an option."
_ARGUMENTS: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {_MODEL: frozenset({"model", "models"}), _SOURCE: frozenset({"source", "sources"})}
)
"""Sentences that are right only for commands with one of these arguments."""
_HALF: Final = "Write a file in half precision: yoloship export best.pt --precision float16"
_INT8: Final = "Write an INT8 file: yoloship export best.pt --precision int8 --calibrate photos/"
INSTEAD: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "--weights": (_MODEL,),
        "--model": (_MODEL,),
        "--source": (_SOURCE,),
        "--img": ("--imgsz",),
        "--img-size": ("--imgsz",),
        "--conf-thres": ("--conf",),
        "--iou-thres": ("--iou",),
        "--batch-size": ("--batch",),
        "--save-txt": ("--txt DIR",),
        "--save-conf": ("--txt-conf DIR",),
        "--save-crop": ("--crops DIR",),
        "--save-csv": ("--csv FILE",),
        "--nosave": ("--no-draw",),
        "--save": ("-o DIR",),
        "--project": ("-o DIR",),
        "--name": ("-o DIR",),
        "--exist-ok": ("--overwrite",),
        "--view-img": ("--show",),
        "--line-thickness": ("--line-width",),
        "--show-labels": ("--hide-labels",),
        "--show-conf": ("--hide-conf",),
        "--task": ("--split",),
        "--half": ("--precision float16", _HALF),
        "--int8": ("--precision int8 --calibrate DIR", _INT8),
        "--dynamic": ("--batch dynamic, --imgsz dynamic",),
        "--nms": ("--output nms",),
        "--include": ("'yoloship export' writes ONNX files, and 'yoloship build' writes TensorRT engines.",),
    }
)
"""An option of another tool → what replaces it: options, used if the command has them all; or a sentence."""


def advice_for(option: str, own: Collection[str]) -> str | None:
    """What to write instead of an option that a command does not have.

    Args:
        option: The option as the user wrote it, such as ``--save_txt``.
        own: The options and the arguments that the command has.

    Returns:
        A sentence; None if the option is not from one of these tools, or nothing replaces it in this command.
    """
    for instead in INSTEAD.get(option.replace("_", "-"), ()):
        if not instead.startswith("-"):
            arguments = _ARGUMENTS.get(instead)
            return instead if arguments is None or not arguments.isdisjoint(own) else None
        if all(word in own for word in instead.replace(",", "").split() if word.startswith("-")):
            return f"Use {instead}."
    return None
