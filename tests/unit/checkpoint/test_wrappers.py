"""Networks inside others: what passes its answer on unchanged is taken off, all else is refused."""

from __future__ import annotations

import pytest

from helpers import forge
from yoloship.checkpoint import Checkpoint, read_checkpoint
from yoloship.errors import CheckpointError


def read(code: bytes, key: str = "model") -> Checkpoint:
    return read_checkpoint(forge.zip_bytes(forge.end(forge.table({key: code}))))


def outline(checkpoint: Checkpoint) -> list[object]:
    """All that the network's tree holds, its numbers included."""
    return [
        (
            place,
            module.class_path,
            module.attributes.keys(),
            [(n, t and t.numpy().tolist()) for n, t in module.parameters.items()],
        )
        for place, module in checkpoint.module.walk()
    ]


def averaged(inner: bytes) -> bytes:
    counter = forge.tensor(forge.storage("0", 24), (), ())
    return forge.module(
        "torch.optim.swa_utils.AveragedModel", buffers={"n_averaged": counter}, modules={"module": inner}
    )


def inside(class_path: str, child: str, inner: bytes, **attributes: bytes) -> bytes:
    return forge.module(class_path, attributes, modules={child: inner})


def auto_shape(inner: bytes) -> bytes:
    return inside("models.common.AutoShape", "model", inside("models.common.DetectMultiBackend", "model", inner))


WRAPPED = {
    "DataParallel": inside("torch.nn.parallel.data_parallel.DataParallel", "module", forge.model()),
    "DistributedDataParallel": inside(
        "torch.nn.parallel.distributed.DistributedDataParallel",
        "module",
        forge.model(),
        logger=forge.instance("torch.distributed.logging.Logger", forge.table({"a": forge.TRUE})),
        _join_config=forge.call("torch.distributed.algorithms.join._JoinConfig", forge.TRUE),
    ),
    "DetectMultiBackend": inside("models.common.DetectMultiBackend", "model", forge.model()),
    "AutoShape": auto_shape(forge.model()),
    "the AutoShape of old releases": inside("models.common.autoShape", "model", forge.model()),
    "AutoBackend": inside("ultralytics.nn.autobackend.AutoBackend", "model", forge.model()),
    "AveragedModel": averaged(forge.model()),
    "a compiled model": inside("torch._dynamo.eval_frame.OptimizedModule", "_orig_mod", forge.model()),
    "an ensemble of one": inside("models.experimental.Ensemble", "0", forge.model()),
    "an average": forge.instance(
        "utils.torch_utils.ModelEMA", forge.table({"ema": forge.model(), "updates": forge.integer(3)})
    ),
    "an average whose class is the user's own": forge.instance("ema.ModelEMA", forge.table({"ema": forge.model()})),
    "several at once": averaged(inside("torch.nn.parallel.data_parallel.DataParallel", "module", forge.model())),
}


@pytest.mark.parametrize("key", ["model", "ema"])
@pytest.mark.parametrize("name", WRAPPED)
def test_a_wrapper_is_taken_off(name: str, key: str) -> None:
    checkpoint = read(WRAPPED[name], key)
    assert checkpoint.source_key == key
    assert outline(checkpoint) == outline(read(forge.model()))
    assert checkpoint.class_names == ("helmet", "vest")


def test_a_wrapper_alone_is_a_model_saved_alone() -> None:
    assert read_checkpoint(forge.zip_bytes(forge.end(auto_shape(forge.model())))).module.class_name == "DetectionModel"


def test_the_names_of_a_wrapper_count_if_the_model_has_none() -> None:
    nameless = forge.model({"names": forge.NONE})
    names = forge.listed(forge.text("a"), forge.text("b"))
    assert read(inside("models.common.AutoShape", "model", nameless, names=names)).class_names == ("a", "b")


def two_models() -> bytes:
    return forge.module("models.experimental.Ensemble", modules={"0": forge.model(), "1": forge.model()})


REFUSED = {
    "an ensemble of two": (
        two_models(),
        "holds an ensemble of 2 models, whose boxes are merged; export each model on its own",
    ),
    "another child": (
        forge.module(
            "models.common.AutoShape", modules={"model": forge.model(), "se": forge.module("models.common.SE")}
        ),
        "holds a 'models.common.AutoShape' that is not only a wrapper around a model: got also 'se' in it",
    ),
    "a weight of its own": (
        forge.module(
            "torch.nn.parallel.data_parallel.DataParallel",
            parameters={"scale": forge.tensor(forge.storage("0", 24), (), ())},
            modules={"module": forge.model()},
        ),
        "that is not only a wrapper around a model: got also 'scale' in it",
    ),
    "a hook": (
        inside(
            "models.common.AutoShape",
            "model",
            forge.model(),
            _forward_hooks=b"}K\x01" + forge.instance("models.x.Hook") + b"s",
        ),
        "that is not only a wrapper around a model: got hooks",
    ),
    "a method of its own": (
        inside(
            "torch.nn.parallel.data_parallel.DataParallel",
            "module",
            forge.model(),
            forward=forge.call("builtins.getattr", forge.instance("models.x.Flipped"), forge.text("run")),
        ),
        "that is not only a wrapper around a model: got hooks or a replaced method",
    ),
    "nothing inside": (
        forge.module("models.experimental.Ensemble"),
        "holds a 'models.experimental.Ensemble' that is not only a wrapper around a model: got no model as its None",
    ),
    "a wrapper of the user's own": (
        inside("mypkg.nets.Wrapper", "model", forge.model()),
        "holds a 'mypkg.nets.Wrapper', which is not a network of a known family; if the model is inside it, save",
    ),
    "a wrapper in itself": (
        forge.named("models.common.AutoShape")
        + b")\x81q\x01"
        + forge.table({"_modules": forge.table({"model": b"h\x01"})})
        + b"b",
        "has its model inside more than 8 others",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_only_a_wrapper_is_refused(name: str) -> None:
    code, message = REFUSED[name]
    with pytest.raises(CheckpointError) as caught:
        read(code)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "average",
    [
        forge.table({"model.0.weight": forge.tensor(forge.storage("0", 24), (24,), (1,))}),
        forge.table({"module": forge.model()}),
    ],
)
def test_averaged_weights_that_are_not_a_model_are_not_left_aside_in_silence(average: forge.Code) -> None:
    table = {"model": forge.model(), "ema": average}
    with pytest.raises(
        CheckpointError, match="holds averaged weights under 'ema' that are not a model, beside a model"
    ):
        read_checkpoint(forge.zip_bytes(forge.end(forge.table(table))))
    for nothing in (forge.NONE, forge.EMPTY_DICT):
        read = read_checkpoint(forge.zip_bytes(forge.end(forge.table({"model": forge.model(), "ema": nothing}))))
        assert read.task == "detect"
