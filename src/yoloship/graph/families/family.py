"""`Family`, the base class of all families of networks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from importlib import import_module
from typing import TYPE_CHECKING, ClassVar, cast

from yoloship.checkpoint.traits import other_head
from yoloship.graph.blocks import emit
from yoloship.graph.config import input_channels

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from yoloship.checkpoint import Module
    from yoloship.graph.blocks import BlockTable
    from yoloship.graph.builder import Builder, Wire
    from yoloship.graph.heads.head import Head
    from yoloship.graph.module_view import ModuleView


class Family(ABC):
    """Networks of one design: what their modules are called, and how they are connected. It holds no state.

    Attributes:
        name: The name in a model's record.
        title: The name as people write it.
        models: Class paths of its networks, for messages.
        blocks: The writers of its modules.
        heads: The `Head` class for each class name of a last layer, as ``module:Class``.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    models: ClassVar[tuple[str, ...]]
    blocks: ClassVar[BlockTable]
    heads: ClassVar[Mapping[str, str]]

    @abstractmethod
    def owns(self, module: Module) -> bool:
        """Whether a network belongs to this family.

        Args:
            module: The root of a checkpoint's module tree.
        """

    @abstractmethod
    def is_head(self, module: Module) -> bool:
        """Whether a layer whose class name is in `heads` really belongs to this family, by its class path."""

    def design(self, module: Module) -> str:  # noqa: ARG002 - for families of several designs
        """What people call a network of this family, as far as it shows.

        Args:
            module: The root of a checkpoint's module tree.
        """
        return self.title

    def has_head(self, module: Module) -> bool:
        """Whether the last layer of a network is one of its heads."""
        return module.class_name in self.heads and self.is_head(module)

    def tasks(self) -> Mapping[str, str]:
        """The task that each of its heads serves, by the class name of the head."""
        return {name: self._head_class(name).task for name in self.heads}

    def head_for(self, task: str) -> type[Head] | None:
        """The class that writes the head of a task; None if the family has none."""
        classes = (self._head_class(name) for name in self.heads)
        return next((head for head in classes if head.task == task), None)

    def layers(self, root: ModuleView) -> tuple[ModuleView, ...]:
        """The network's layers in order, the head last.

        Raises:
            GraphError: there are none.
        """
        layers = root.child("model").submodules()
        if not layers:
            raise root.error("has no layers")
        return layers

    def input_channels(self, root: ModuleView, layers: Sequence[ModuleView]) -> int:
        """Channels of the network's input.

        Args:
            root: The model.
            layers: As `layers` gave them.
        """
        return input_channels(root, layers)

    def read_head(self, layer: ModuleView) -> Head:
        """Read the last layer.

        Raises:
            GraphError: it is another head (the message says which, if that can be seen), or its values are impossible.
        """
        if not self.has_head(layer.module):
            other = other_head(layer.module)
            if other is not None:
                raise layer.error(other.problem, hint=other.hint)
            official = self.blocks.head_package
            raise layer.error(
                "is not a head that this version can write",
                expected=" or ".join(f"{official}.{head}" for head in self.heads),
                hint="if it is the official head under another name, say so with "
                f"--alias {layer.class_path[:80]}={official}.{next(iter(self.heads))} (aliases in Python)",
            )
        return self._head_class(layer.class_name).read(layer)

    def write(self, builder: Builder, layers: Sequence[ModuleView], image: Wire) -> tuple[Wire, ...]:
        """Write all layers before the head.

        Args:
            builder: Takes the nodes.
            layers: As `layers` gave them.
            image: The input.

        Returns:
            The inputs of the head.

        Raises:
            GraphError: a layer cannot be written, or takes the output of a layer that is not before it.
        """
        values: list[Wire] = []
        for layer in layers[:-1]:
            values.append(emit(builder, layer, _inputs(layer, values, image)))
        return _inputs(layers[-1], values, image)

    def _head_class(self, name: str) -> type[Head]:
        module, _, attribute = self.heads[name].partition(":")
        return cast("type[Head]", getattr(import_module(module), attribute))


def _inputs(layer: ModuleView, values: Sequence[Wire], image: Wire) -> tuple[Wire, ...]:
    """The inputs of a layer, by its attribute `f`. −1 is the layer before; others count from the first or the last."""
    given = layer.value("f")
    sources = given if isinstance(given, list | tuple) else [given]
    wires = []
    for source in sources:
        if isinstance(source, bool) or not isinstance(source, int):
            raise layer.error("bad 'f'", expected="numbers of layers", got=given)
        if source == -1 and not values:
            wires.append(image)
        elif -len(values) <= source < len(values):
            wires.append(values[source])
        else:
            raise layer.error(
                "takes its input from a layer that is not before it", expected=f"below {len(values)}", got=given
            )
    if not wires:
        raise layer.error("takes nothing", expected="at least one layer in 'f'")
    return tuple(wires)
