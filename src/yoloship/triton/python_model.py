"""The model that Triton's Python backend runs: `TritonPythonModel`, which a repository's ``model.py`` imports.

It takes image files, or arrays of pixels, and answers with what `yoloship.triton.answers` describes. All requests that
the server hands over at once are one batch. A request that is wrong gets an error, and the others get their answers.

Arrays cross over as DLPack capsules. The module of the backend was compiled for one major version of NumPy: with
another, the arrays that it makes have wrong strides, so each image would be its first byte over and over (measured with
Triton 2.51 and NumPy 2.4). For the same reason no tensor is of the type BYTES.
"""

from __future__ import annotations

import ctypes
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from yoloship._util.cores import usable_cores
from yoloship.errors import ImageError, InputError, YoloshipError
from yoloship.triton.answers import answer_specs, to_tensors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from yoloship.detect.detector import Detector
    from yoloship.detect.options import DetectOptions
    from yoloship.results import Result

    Pixels = npt.NDArray[np.uint8]

FILE_INPUT: Final = "image"
PIXEL_INPUT: Final = "pixels"
MODEL_KEY: Final = "yoloship.file"
OPTIONS_KEY: Final = "yoloship.options"
"""Parameters of the configuration: the model's file, and the arguments of `yoloship.load` as JSON."""
REQUEST_OPTIONS: Final = ("score_threshold", "iou_threshold")
"""Parameters that a request can have."""
_USED: Final = b"used_dltensor"


class TritonPythonModel:
    """One instance of a model in a process of Triton's Python backend, which calls these methods."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Load the model, before any request.

        Args:
            args: What the backend tells: the configuration as JSON, the place of the repository, the kind of instance.

        Raises:
            YoloshipError: the model cannot be loaded; the server then refuses it with this message.
        """
        import triton_python_backend_utils as backend

        from yoloship.models.loading import load

        self._backend = backend
        config = json.loads(args["model_config"])
        folder = Path(args["model_repository"]) / args["model_version"]
        arguments = _load_arguments(config, args)
        self._detector: Detector = load(folder / _parameter(config, MODEL_KEY), **arguments)
        rows = self._detector.options.max_detections
        self._specs = {spec.name: spec for spec in answer_specs(self._detector.info, rows)}
        self._pool = ThreadPoolExecutor(min(usable_cores(), max(1, config["max_batch_size"])), "decode")

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer the requests of one batch.

        Args:
            requests: Those that the server's batcher put together.

        Returns:
            One response for each, in their order.
        """
        answers: list[Any] = [None] * len(requests)
        groups: dict[DetectOptions, dict[int, list[Pixels]]] = {}
        for place, one in enumerate(self._pool.map(self._read, requests)):
            if isinstance(one, YoloshipError):
                answers[place] = self._failed(one)
            else:
                images, options = one
                groups.setdefault(options, {})[place] = images
        for options, asked in groups.items():
            for place, found in zip(asked, self._found(list(asked.values()), options), strict=True):
                is_error = isinstance(found, YoloshipError)
                names = requests[place].requested_output_names()
                answers[place] = self._failed(found) if is_error else self._answer(found, names)
        return answers

    def _found(self, asked: Sequence[list[Pixels]], options: DetectOptions) -> list[Any]:
        """The results of each request, or its error. If a batch fails, its requests run one by one."""
        try:
            results = iter(self._detector.detect_batch([one for images in asked for one in images], options=options))
        except YoloshipError as error:
            return [error] if len(asked) == 1 else [self._found([images], options)[0] for images in asked]
        return [[next(results) for _ in images] for images in asked]

    def finalize(self) -> None:
        """Release the model."""
        self._pool.shutdown()
        self._detector.close()

    def _read(self, request: Any) -> tuple[list[Pixels], DetectOptions] | YoloshipError:
        """The images of a request, decoded, and its options; or what is wrong with it."""
        try:
            options = self._options(request.parameters())
            images: list[Pixels] = []
            for tensor in request.inputs():
                array = np.from_dlpack(tensor)  # as_numpy() is wrong under another NumPy, see above
                images += self._images(tensor.name(), array)
        except YoloshipError as error:
            return error
        return (images, options) if images else InputError("a request without an image", expected=FILE_INPUT)

    def _images(self, name: str, array: npt.NDArray[Any]) -> list[Pixels]:
        from yoloship.detect.preprocess import as_image

        count = self._detector.info.channels
        if name == FILE_INPUT:
            return [as_image(_file(row), count=count) for row in array]
        return [as_image(np.ascontiguousarray(row), count=count) for row in array]

    def _options(self, parameters: str) -> DetectOptions:
        from dataclasses import replace

        given = {key: value for key, value in json.loads(parameters or "{}").items() if key in REQUEST_OPTIONS}
        if not given:
            return self._detector.options
        try:
            changes: dict[str, Any] = {key: float(value) for key, value in given.items()}
        except (TypeError, ValueError) as error:
            raise InputError("is not a number", subject="parameters", got=str(given)[:80]) from error
        return replace(self._detector.options, **changes)

    def _answer(self, results: Sequence[Result], wanted: Sequence[str]) -> Any:
        arrays = to_tensors(results, [spec for name, spec in self._specs.items() if name in wanted])
        return self._backend.InferenceResponse([self._tensor(name, array) for name, array in arrays.items()])

    def _tensor(self, name: str, array: npt.NDArray[Any]) -> Any:
        export = _Export(array)
        tensor = self._backend.Tensor.from_dlpack(name, export)
        export.settle()
        return tensor

    def _failed(self, error: YoloshipError) -> Any:
        kind = self._backend.TritonError
        code = kind.INVALID_ARG if isinstance(error, InputError) else kind.INTERNAL
        return self._backend.InferenceResponse(error=kind(str(error), code))


class _Export:
    """An array that is handed over as a DLPack capsule.

    The backend marks a capsule that it has taken with a name of its own, ``used_dlpack``. NumPy looks for
    ``used_dltensor``, as the DLPack specification has it, and would print an error for each tensor.
    """

    def __init__(self, array: npt.NDArray[Any]) -> None:
        self._array = array
        self._capsule: Any = None

    def __dlpack__(self, **_: Any) -> Any:
        self._capsule = self._array.__dlpack__()
        return self._capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._array.__dlpack_device__()

    def settle(self) -> None:
        """Give a capsule that was taken the name that its maker expects."""
        rename = ctypes.pythonapi.PyCapsule_SetName
        rename.argtypes, rename.restype = [ctypes.py_object, ctypes.c_char_p], ctypes.c_int
        if self._capsule is not None and f'"{_USED.decode()}"' not in repr(self._capsule):
            rename(self._capsule, _USED)  # the name must outlive the capsule: the module keeps it


def _file(row: npt.NDArray[Any]) -> bytes:
    """An image file of a request. A batch of files has rows of one length, so shorter ones end in zeros."""
    if not row.size:
        raise ImageError("is empty", subject=FILE_INPUT, expected="the bytes of an image file")
    return row.tobytes()


def _parameter(config: Mapping[str, Any], key: str) -> str:
    entry = config["parameters"].get(key)
    if entry is None:
        raise InputError(
            "is missing in config.pbtxt", subject=f"parameter {key}", hint="write the repository again: yoloship triton"
        )
    return str(entry["string_value"])


def _load_arguments(config: Mapping[str, Any], args: Mapping[str, str]) -> dict[str, Any]:
    """The arguments of `load`: those of the configuration, and where this instance runs."""
    arguments: dict[str, Any] = json.loads(_parameter(config, OPTIONS_KEY))
    if args["model_instance_kind"] == "GPU":
        return {**arguments, "device": f"cuda:{args['model_instance_device_id']}"}
    instances = sum(group["count"] for group in config["instance_group"])
    return {**arguments, "device": "cpu", "workers": max(1, usable_cores() // max(1, instances))}
