"""The end of a classification network: pooling over the whole map, and linear layers that give a score a class.

YOLOv5's Classify module pools after a convolution and gives logits. Ultralytics' module of the same name gives
probabilities, as its own export does. A ResNet pools and ends in ``fc``, which people replace by layers of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from yoloship.graph import activations
from yoloship.graph.blocks import emit
from yoloship.graph.convolution import emit_linear, is_linear, read_linear, read_norm
from yoloship.graph.heads.head import Head, batch_axis
from yoloship.model import MAX_CLASSES, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from typing_extensions import Self

    from yoloship.graph.builder import Builder, Wire
    from yoloship.graph.config import GraphConfig
    from yoloship.graph.module_view import ModuleView
    from yoloship.model import ClassScores

OUTPUT: Final = "output0"
_RAW: Final = "raw"
_NOTHING: Final = frozenset({"Dropout", "Dropout2d", "Identity"})
_GIVES: Final[dict[str, ClassScores]] = {"Softmax": "probabilities", "LogSoftmax": "logits"}
"""What a network ends in, by the class of its last layer. The softmax of log-probabilities is the probabilities."""


@dataclass(frozen=True, slots=True)
class ClassifyHead(Head):
    """Pooling and linear layers.

    Attributes:
        gives: What the network ends in.
    """

    task = "classify"
    forms = (_RAW,)
    fastest = _RAW

    gives: ClassScores

    @classmethod
    def shape_text(cls, classes: int) -> str:
        """A score for each class."""
        return f"(B, {classes})"

    @property
    def class_scores(self) -> ClassScores:
        """Whether the output is logits or probabilities."""
        return self.gives

    def emit(
        self,
        builder: Builder,
        config: GraphConfig,
        inputs: Sequence[Wire],
        input_hw: tuple[int, int],  # noqa: ARG002 - one signature
    ) -> None:
        """Write the pooling and the linear layers, and declare the output: (B, C) float32."""
        pooled = self._pooled(builder, inputs)
        if pooled.hw != (1, 1):
            raise self.module.error("its pooling leaves more than one pixel", expected="(1, 1)", got=pooled.hw)
        scores = _classified(builder, self._classifier(), pooled)
        if scores.channels != self.classes:
            raise self.module.error(
                "ends in a different number of classes", expected=str(self.classes), got=scores.channels
            )
        flat = builder.node("Flatten", f"{self.module.place or 'model'}.flatten", (scores,), scores.shape[:2], axis=1)
        if self.ends_in_softmax:
            flat = builder.node("Softmax", f"{self.module.place or 'model'}.softmax", (flat,), flat.shape, axis=1)
        builder.output(flat, TensorSpec(OUTPUT, "float32", (batch_axis(config), self.classes)))

    @property
    def ends_in_softmax(self) -> bool:
        """Whether the module's own forward ends in a softmax that is not a layer of its own."""
        return False

    def _classifier(self) -> ModuleView:
        """The linear layer, or the container of several."""
        return self.module.child("linear")

    def _pooled(self, builder: Builder, inputs: Sequence[Wire]) -> Wire:
        """The mean of every channel, (B, C, 1, 1)."""
        if len(inputs) != 1:
            raise self.module.error("takes one input", got=len(inputs))
        x = emit(builder, self.module.child("conv"), inputs)
        return emit(builder, self.module.child("pool"), (x,))


class Yolov5ClassifyHead(ClassifyHead):
    """YOLOv5's Classify module: convolution, pooling, linear layer; logits."""

    @classmethod
    def read(cls, layer: ModuleView) -> Self:
        """Read a Classify module."""
        linear = layer.child("linear")
        layer.optional_child("drop")
        return cls(layer, *_outcome(linear))


class UltralyticsClassifyHead(Yolov5ClassifyHead):
    """Ultralytics' module of the same layers, whose forward ends in a softmax in evaluation; probabilities."""

    @property
    def ends_in_softmax(self) -> bool:
        """Always."""
        return True

    @property
    def class_scores(self) -> ClassScores:
        """Probabilities, as its own export gives."""
        return "probabilities"


class ResNetHead(ClassifyHead):
    """The pooling and ``fc`` of a ResNet of torchvision or timm; its module is the whole network."""

    @classmethod
    def read(cls, layer: ModuleView) -> Self:
        """Read the layers behind the pooling."""
        return cls(layer, *_outcome(layer.child("fc")))

    def _classifier(self) -> ModuleView:
        return self.module.child("fc")

    def _pooled(self, builder: Builder, inputs: Sequence[Wire]) -> Wire:
        name = "avgpool" if self.module.optional_child("avgpool") is not None else "global_pool"
        return emit(builder, self.module.child(name), inputs)


def _layers(module: ModuleView) -> Iterator[ModuleView]:
    """The single layers of a classifier, which is one layer or a Sequential, perhaps in another."""
    if module.torch_name != "Sequential":
        yield module
        return
    for layer in module.submodules():
        yield from _layers(layer)


def _outcome(classifier: ModuleView) -> tuple[int, tuple[int, ...], ClassScores]:
    """How many classes a classifier has, no strides, and what it ends in.

    Raises:
        GraphError: no linear layer gives the classes, or what follows it does not give a score for each.
    """
    layers = [layer for layer in _layers(classifier) if layer.torch_name not in _NOTHING]
    last = layers[-1].torch_name if layers else None
    gives = _GIVES.get(last or "", "logits")
    if last in _GIVES:
        layers[-1].require("dim", 1, -1)
        layers.pop()
    if not layers or not is_linear(layers[-1]):
        got = layers[-1].class_path if layers else classifier.class_path
        hint = "a network of features has no classes; put the classifier back and save the whole model"
        if last == "Sigmoid":
            hint = "several classes at once (a sigmoid for each) are not supported"
        raise classifier.error(
            "does not end in a linear layer with an output for each class", expected="torch.nn.Linear", got=got,
            hint=hint,
        )  # fmt: skip
    weight = layers[-1].optional_tensor("weight")
    shape = () if weight is None else weight.shape
    if len(shape) != 2 or not 1 <= shape[0] <= MAX_CLASSES:
        raise layers[-1].error("bad 'weight'", expected=f"(1 to {MAX_CLASSES}, any)", got=shape)
    return shape[0], (), gives


def _classified(builder: Builder, classifier: ModuleView, x: Wire) -> Wire:
    """Write a classifier on (B, C, 1, 1). A linear layer is a 1x1 convolution there."""
    builder.visit(classifier)
    if classifier.torch_name == "Sequential":
        for layer in classifier.submodules():
            x = _classified(builder, layer, x)
        return x
    if is_linear(classifier):
        return emit_linear(builder, classifier, *read_linear(classifier, x.channels), x)
    if classifier.torch_name in {"Flatten", *_NOTHING}:
        return x
    if classifier.torch_name == "BatchNorm1d":
        scale, shift = read_norm(classifier, x.channels)
        return emit_linear(builder, classifier, np.diag(scale), shift, x)
    if classifier.torch_name in _GIVES:
        return builder.node(str(classifier.torch_name), classifier.place, (x,), x.shape, axis=1)
    return activations.activate(builder, classifier, x)
