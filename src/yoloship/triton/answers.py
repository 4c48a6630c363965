"""Results as tensors of fixed names and shapes, and back: what our model in Triton's Python backend answers.

Every answer has ``result``: the record of the image as JSON, for people and scripts. Objects are in tensors too, in
source pixels, best first. Each has as many rows as an image can have objects; the rows after ``count`` are zeros.

`to_tensors` runs in the server, `from_tensors` in a client, which trusts none of it.
"""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from yoloship._util.strict_json import json_text
from yoloship.errors import SessionError
from yoloship.model import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from yoloship.model import ModelInfo
    from yoloship.results import Result

    Arrays = dict[str, npt.NDArray[Any]]

BATCH: Final = "batch"
MAX_JSON_BYTES: Final = 64_000_000
EXTRAS: Final[Mapping[str, str | None]] = MappingProxyType(
    {"detect": None, "segment": "masks", "pose": "keypoints", "obb": "boxes_xywhr"}
)
"""By task: the tensor that objects have beside their boxes. Models of tasks that are not here give their record only,
unless they classify."""


def answer_specs(info: ModelInfo, rows: int) -> tuple[TensorSpec, ...]:
    """The tensors of an answer, with the images of a request as the first axis.

    Args:
        info: The model.
        rows: The most objects of an image.

    Returns:
        ``result`` (batch, n) uint8 for every task: UTF-8, padded with spaces. For classification ``probabilities``
        (batch, classes). For objects ``image_hw`` (batch, 2), ``count`` (batch, 1), ``boxes_xyxy`` (batch, rows, 4),
        ``scores`` (batch, rows) and ``class_ids`` (batch, rows), with ``keypoints`` (batch, rows, K, D),
        ``boxes_xywhr`` (batch, rows, 5), or ``masks`` (batch, n), a JSON list of COCO's compressed run lengths.
    """
    specs = [TensorSpec("result", "uint8", (BATCH, "bytes"))]
    if info.class_scores is not None:
        return (*specs, TensorSpec("probabilities", "float32", (BATCH, len(info.class_names))))
    if info.task not in EXTRAS:
        return tuple(specs)
    specs += [
        TensorSpec("image_hw", "int32", (BATCH, 2)),
        TensorSpec("count", "int32", (BATCH, 1)),
        TensorSpec("boxes_xyxy", "float32", (BATCH, rows, 4)),
        TensorSpec("scores", "float32", (BATCH, rows)),
        TensorSpec("class_ids", "int32", (BATCH, rows)),
    ]
    extra = EXTRAS[info.task]
    if extra == "masks":
        specs.append(TensorSpec(extra, "uint8", (BATCH, "mask_bytes")))
    elif extra is not None:
        specs.append(TensorSpec(extra, "float32", (BATCH, rows, *_extra_shape(info, extra))))
    return tuple(specs)


def _extra_shape(info: ModelInfo, extra: str) -> tuple[int, ...]:
    """The numbers of one object: those of its keypoints, or its centre, width, height and angle."""
    return info.keypoint_shape or () if extra == "keypoints" else (5,)


def to_tensors(results: Sequence[Result], specs: Sequence[TensorSpec]) -> Arrays:
    """The tensors of some images.

    Args:
        results: One for each image of a request, 1 or more.
        specs: Those of `answer_specs` that are wanted.

    Returns:
        Each by its name, C-contiguous and never empty; the caller owns them.
    """
    return {spec.name: _tensor(results, spec) for spec in specs}


def _tensor(results: Sequence[Any], spec: TensorSpec) -> npt.NDArray[Any]:
    if spec.name == "result":
        return _padded([_record(result) for result in results])
    if spec.name == "masks":
        return _padded([json.dumps(result.masks.rle()).encode() for result in results])
    if spec.name == "image_hw":
        return np.array([result.image_hw for result in results], np.int32)
    if spec.name == "count":
        return np.array([[len(result)] for result in results], np.int32)
    if spec.name == "probabilities":
        return np.stack([result.probabilities for result in results])
    fixed = [extent for extent in spec.shape[1:] if isinstance(extent, int)]  # all but the batch
    tensor = np.zeros((len(results), *fixed), spec.dtype)
    for row, result in enumerate(results):
        values = getattr(result, spec.name)
        tensor[row, : len(values)] = values
    return tensor


def _record(result: Result) -> bytes:
    from yoloship.sinks.records import shortened

    return json_text(shortened(result.to_dict())).encode()


def _padded(documents: Sequence[bytes]) -> npt.NDArray[np.uint8]:
    """JSON documents as rows of one length. Spaces after a document are a part of no value."""
    length = max(map(len, documents))
    rows = np.frombuffer(b"".join(one.ljust(length) for one in documents), np.uint8)
    padded: npt.NDArray[np.uint8] = rows.reshape(-1, length).copy()
    return padded


def from_tensors(
    tensors: Mapping[str, npt.NDArray[Any]], info: ModelInfo, image_hw: tuple[int, int], subject: str
) -> Result:
    """The result of the only image of a request.

    Args:
        tensors: What a server answered, by name; untrusted, read only.
        info: What the model should be.
        image_hw: (height, width) of the image that was sent.
        subject: The server, for messages.

    Raises:
        SessionError: a tensor is missing, has another shape or type, or a value that cannot be.
    """
    from yoloship.results.classification import Classification
    from yoloship.results.detections import Detections

    read = _Reader(tensors, subject)
    if info.class_scores is not None:
        probabilities = read.take("probabilities", np.float32, (1, len(info.class_names)))[0]
        read.check_finite("probabilities", probabilities, 0.0, 1.0)
        return Classification(probabilities, info.class_names, image_hw)
    seen_hw = tuple(read.take("image_hw", np.int32, (1, 2))[0].tolist())
    if seen_hw != tuple(image_hw):
        raise read.wrong("image_hw", f"{image_hw[0]}x{image_hw[1]}, as it was sent", f"{seen_hw[0]}x{seen_hw[1]}")
    (count,) = read.take("count", np.int32, (1, 1))[0].tolist()
    scores = read.take("scores", np.float32, (1, None))[0]
    rows = len(scores)
    if not 0 <= count <= rows:
        raise read.wrong("count", f"0 to {rows}", str(count))
    scores = np.ascontiguousarray(scores[:count])
    boxes = np.ascontiguousarray(read.take("boxes_xyxy", np.float32, (1, rows, 4))[0, :count])
    class_ids = np.ascontiguousarray(read.take("class_ids", np.int32, (1, rows))[0, :count])
    read.check_finite("scores", scores, 0.0, 1.0)
    read.check_finite("boxes_xyxy", boxes, 0.0, float(max(image_hw)))
    if count and not (class_ids.min() >= 0 and class_ids.max() < len(info.class_names)):
        raise read.wrong("class_ids", f"0 to {len(info.class_names) - 1}", f"{class_ids.min()} to {class_ids.max()}")
    extras: dict[str, Any] = {}
    extra = EXTRAS[info.task]
    if extra == "masks":
        extras[extra] = read.masks(count, image_hw)
    elif extra is not None:
        values = read.take(extra, np.float32, (1, rows, *_extra_shape(info, extra)))[0, :count]
        read.check_finite(extra, values)
        extras[extra] = np.ascontiguousarray(values)
    order = np.argsort(-scores, kind="stable")
    found = Detections(boxes, scores, class_ids, info.class_names, image_hw, **extras)
    return found if np.array_equal(order, np.arange(count)) else found[order]


class _Reader:
    """Takes tensors of an answer, and says what is wrong with it."""

    def __init__(self, tensors: Mapping[str, npt.NDArray[Any]], subject: str) -> None:
        self._tensors = tensors
        self._subject = subject

    def wrong(self, name: str, expected: str, got: str) -> SessionError:
        return SessionError(f"its answer has a wrong {name}", subject=self._subject, expected=expected, got=got[:80])

    def take(self, name: str, dtype: type[np.generic], shape: tuple[int | None, ...]) -> npt.NDArray[Any]:
        tensor = self._tensors.get(name)
        if tensor is None:
            raise self.wrong(name, f"one of {np.dtype(dtype)}", "none")
        same = len(tensor.shape) == len(shape) and all(
            want in {None, have} for want, have in zip(shape, tensor.shape, strict=True)
        )
        if not same or tensor.dtype != dtype:
            text = ", ".join("any" if extent is None else str(extent) for extent in shape)
            raise self.wrong(name, f"{np.dtype(dtype)}({text})", f"{tensor.dtype}{tensor.shape}")
        return tensor

    def check_finite(
        self, name: str, values: npt.NDArray[Any], low: float | None = None, high: float | None = None
    ) -> None:
        if not np.isfinite(values).all():
            raise self.wrong(name, "finite numbers", "NaN or infinity")
        if values.size and low is not None and high is not None and (values.min() < low or values.max() > high):
            raise self.wrong(name, f"{low:g} to {high:g}", f"{values.min():g} to {values.max():g}")

    def masks(self, count: int, image_hw: tuple[int, int]) -> Any:
        from yoloship.results.masks import Masks

        text = self.take("masks", np.uint8, (1, None))[0].tobytes()
        if len(text) > MAX_JSON_BYTES:
            raise self.wrong("masks", f"at most {MAX_JSON_BYTES} bytes", f"{len(text)} bytes")
        try:
            entries = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise self.wrong("masks", "JSON", str(error)) from error
        if not isinstance(entries, list) or len(entries) != count:
            raise self.wrong("masks", f"a list of {count}", str(entries))
        windows = [Masks.from_array(self._mask(entry, image_hw)[None]).windows[0] for entry in entries]
        return Masks(tuple(windows), image_hw)

    def _mask(self, entry: object, image_hw: tuple[int, int]) -> npt.NDArray[np.bool_]:
        from yoloship.results.rle import decompressed

        counts = entry.get("counts") if isinstance(entry, dict) else None
        runs = decompressed(counts) if isinstance(counts, str) else None
        height, width = image_hw
        if runs is None or min(runs, default=0) < 0 or sum(runs) != height * width:
            raise self.wrong("masks", f"run lengths of {height * width} pixels", str(entry))
        pixels = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
        mask: npt.NDArray[np.bool_] = pixels.reshape(width, height).T
        return mask
