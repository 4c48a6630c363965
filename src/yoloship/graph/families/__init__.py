"""The families of networks that a checkpoint can hold. Each has a file, and a line in the table `FAMILIES`."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from yoloship._util.tables import Table
from yoloship.checkpoint.traits import other_head
from yoloship.errors import GraphError
from yoloship.graph.module_view import ModuleView

if TYPE_CHECKING:
    from collections.abc import Mapping

    from yoloship.checkpoint import Checkpoint
    from yoloship.graph.families.family import Family

FAMILIES: Final[Table[Family]] = Table(
    "yoloship.families",
    "family",
    MappingProxyType(
        {
            "yolov5": "yoloship.graph.families.yolov5:Yolov5",
            "ultralytics": "yoloship.graph.families.ultralytics:Ultralytics",
            "resnet": "yoloship.graph.families.resnet:ResNet",
        }
    ),
    base="yoloship.graph.families.family:Family",
)
"""By `ModelInfo.family`. An installed package adds one by an entry point of the group ``yoloship.families``."""

_TITLES: Final[Mapping[str, str]] = MappingProxyType(
    {"detect": "detection", "segment": "segmentation", "classify": "classification", "obb": "oriented boxes"}
)
"""Names of models for messages, for tasks whose own name does not serve."""


def family_of(checkpoint: Checkpoint) -> Family:
    """The family that a checkpoint's network belongs to: one of ours, or if none of them owns it another package's.

    Raises:
        GraphError: it belongs to no known family, or to several of other packages. The message says what the network
            is instead, if that can be seen.
        DependencyError: another package's family cannot be loaded.
    """
    ours = [FAMILIES.load(name)() for name in FAMILIES.own]
    for family in ours:
        if checkpoint.task in family.tasks().values() and family.owns(checkpoint.module):
            return family
    others = {name: FAMILIES.load(name)() for name in FAMILIES.others()}
    families = [*ours, *others.values()]
    tasks = {task for family in families for task in family.tasks().values()}
    if checkpoint.task not in tasks:
        raise GraphError(
            f"is a {_TITLES.get(checkpoint.task, checkpoint.task)} model, which this version does not write yet",
            subject=checkpoint.name,
            hint=f"it writes {' and '.join(sorted(_TITLES.get(task, task) for task in tasks))} models; "
            "export this one with the project that trained it",
        )
    owners = [name for name, family in others.items() if family.owns(checkpoint.module)]
    if len(owners) > 1:
        raise GraphError(
            "belongs to several families from installed packages", subject=checkpoint.name, got=", ".join(owners),
            hint="uninstall all but one of those packages",
        )  # fmt: skip
    if owners:
        return others[owners[0]]
    root = ModuleView(checkpoint.module, "", checkpoint.name)
    head = root.child("model").last() if "model" in checkpoint.module.children else root
    near = next((family for family in families if family.has_head(head.module)), None)
    if near is not None:
        near.read_head(head)  # it may be refused for what it is
    elif (other := other_head(head.module)) is not None:
        raise head.error(other.problem, hint=other.hint)
    expected = " or ".join(path for family in families for path in family.models)
    raise root.error(
        f"is not the model of an official {' or '.join(family.title for family in families)} training",
        expected=expected,
        hint="another model may connect its layers in another way; if it does not, say so with "
        f"--alias {checkpoint.module.class_path[:80]}={(near or families[0]).models[-1]} (aliases in Python)",
    )
