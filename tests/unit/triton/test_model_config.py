"""Configurations, by Triton's published schema."""

from __future__ import annotations

from dataclasses import replace

import pytest

from helpers.triton_schema import parsed, schema
from yoloship.errors import InputError, SessionError
from yoloship.model import TensorSpec
from yoloship.triton.model_config import (
    TYPES,
    Batching,
    Instances,
    ModelConfig,
    Port,
    WarmInput,
    check_name,
    is_batched,
)

CONFIG = ModelConfig(
    name="best",
    backend="onnxruntime",
    platform="onnxruntime_onnx",
    file="model.onnx",
    inputs=(Port("images", "float32", (3, 640, 640)),),
    outputs=(
        Port("boxes", "float32", (300, 4)),
        Port("count", "int32", ()),
        Port("p", "float32", (9,), labels="l.txt"),
    ),
    batching=Batching(8, (4,), 1500),
    instances=Instances("KIND_GPU", 2, (0, 3)),
    warm_inputs=(WarmInput("images", "float32", (3, 640, 640)),),
    parameters={"metadata": "{'names': {0: 'it\\'s'}}"},
)


def test_every_part_is_what_the_schema_says() -> None:
    found = parsed(CONFIG.to_text())
    assert (found.name, found.backend, found.platform) == ("best", "onnxruntime", "onnxruntime_onnx")
    assert (found.max_batch_size, found.default_model_filename) == (8, "model.onnx")
    assert found.version_policy.latest.num_versions == 1
    (images,) = found.input
    assert (images.name, images.data_type, list(images.dims)) == ("images", schema().TYPE_FP32, [3, 640, 640])
    boxes, count, scores = found.output
    assert list(boxes.dims) == [300, 4]
    assert not boxes.HasField("reshape")
    assert (scores.label_filename, count.label_filename) == ("l.txt", "")
    assert list(found.dynamic_batching.preferred_batch_size) == [4]
    assert found.dynamic_batching.max_queue_delay_microseconds == 1500
    (group,) = found.instance_group
    assert (group.kind, group.count, list(group.gpus)) == (schema().ModelInstanceGroup.KIND_GPU, 2, [0, 3])
    assert {key: value.string_value for key, value in found.parameters.items()} == dict(CONFIG.parameters)


def test_a_tensor_with_one_number_for_each_image_is_reshaped_to_no_extents() -> None:
    count = parsed(CONFIG.to_text()).output[1]
    assert list(count.dims) == [1]
    assert count.HasField("reshape")
    assert list(count.reshape.shape) == []


def test_the_server_warms_up_one_image_the_preferred_sizes_and_the_largest_batch() -> None:
    warm = parsed(CONFIG.to_text()).model_warmup
    assert [one.batch_size for one in warm] == [1, 4, 8]
    value = warm[0].inputs["images"]
    assert (value.data_type, list(value.dims), value.zero_data) == (schema().TYPE_FP32, [3, 640, 640], True)


def test_a_warm_up_can_bring_a_file() -> None:
    config = replace(CONFIG, warm_inputs=(WarmInput("image", "uint8", (99,), "image"),))
    assert parsed(config.to_text()).model_warmup[0].inputs["image"].input_data_file == "image"


def test_without_a_batch_there_is_no_batcher_and_one_warm_up() -> None:
    found = parsed(replace(CONFIG, batching=Batching(0)).to_text())
    assert not found.HasField("dynamic_batching")
    assert found.max_batch_size == 0
    assert [one.batch_size for one in found.model_warmup] == [1]


def test_every_type_has_the_schemas_name() -> None:
    assert all(hasattr(schema(), name) for name in TYPES.values())


def test_ports_leave_out_the_batch_of_the_server_and_write_open_extents_as_minus_one() -> None:
    spec = TensorSpec("x", "uint8", ("batch", "height", 640, 3))
    assert Port.of(spec, batched=True).dims == (-1, 640, 3)
    assert Port.of(spec, batched=False).dims == (-1, -1, 640, 3)


def test_a_type_that_triton_lacks_is_refused() -> None:
    with pytest.raises(SessionError, match=r"x: Triton has no such type: .* got float8_e4m3fn"):
        Port.of(TensorSpec("x", "float8_e4m3fn", (1,)), batched=False)


def test_a_preferred_size_above_the_largest_is_refused() -> None:
    with pytest.raises(InputError, match="preferred: is not a size of a batch: expected 1 to 4, got 8"):
        Batching(4, (8,))


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden", "a b", "é", "a" * 129, "a\nb", "-a"])
def test_names_that_are_not_a_plain_folder_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="cannot be the name of a model"):
        check_name(name, "the name of a model")


def test_only_networks_whose_tensors_all_begin_with_the_batch_are_batched() -> None:
    free, fixed = TensorSpec("a", "float32", ("batch", 3)), TensorSpec("b", "float32", (1, 3))
    assert is_batched([free], [free])
    assert not is_batched([free], [fixed])
    assert not is_batched([fixed], [fixed])
    assert not is_batched([free], [TensorSpec("c", "float32", ())])
