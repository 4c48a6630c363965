"""A runtime for yoloship: OpenCV's own, which is installed wherever yoloship is.

yoloship detect best.pt photo.jpg --runtime opencv
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from yoloship import SessionError
from yoloship.model import TensorSpec
from yoloship.runtime import Runtime, Session
from yoloship.runtime.session import check_feeds

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt
    import onnx

    from yoloship.runtime import RunOptions


class OpenCv(Runtime):
    """OpenCV's module dnn, on the CPU."""

    title = "OpenCV"
    packages = ("cv2",)
    install = "pip install opencv-python-headless"
    opens = frozenset({"onnx"})
    devices = frozenset({"cpu"})
    precisions = frozenset({"float32"})

    @classmethod
    def open(cls, model: Path | bytes, options: RunOptions) -> Session:
        """Load an ONNX file."""
        data = model if isinstance(model, bytes) else model.read_bytes()
        return OpenCvSession(data, options.model_name or (model.name if isinstance(model, Path) else "model"))


class OpenCvSession(Session):
    """A network of OpenCV. It runs one batch at a time, with all of OpenCV's threads."""

    def __init__(self, data: bytes, model_name: str) -> None:
        import cv2
        import onnx
        from google.protobuf.message import DecodeError

        try:
            graph = onnx.load_from_string(data)
        except DecodeError as error:
            raise SessionError("is not an ONNX file, or is damaged", subject=model_name) from error
        super().__init__(
            [_spec(value) for value in graph.graph.input],
            [_spec(value) for value in graph.graph.output],
            {entry.key: entry.value for entry in graph.metadata_props},
        )
        self._model_name = model_name
        self._lock = threading.Lock()
        try:
            self._network = cv2.dnn.readNetFromONNX(np.frombuffer(data, np.uint8))
        except cv2.error as error:
            raise SessionError(f"OpenCV refuses it: {error.err}", subject=model_name) from error

    @property
    def name(self) -> str:
        """What runs it, for people."""
        import cv2

        return f"OpenCV {cv2.__version__} (CPU)"

    def run(self, feeds: Mapping[str, npt.NDArray[np.generic]]) -> tuple[npt.NDArray[np.generic], ...]:
        """Run once; a second thread waits."""
        import cv2

        check_feeds(self.inputs, feeds)
        with self._lock:
            if self._network is None:
                raise SessionError("is closed", subject=self._model_name)
            try:
                for name, array in feeds.items():
                    self._network.setInput(array, name)
                outputs = self._network.forward([output.name for output in self.outputs])
            except cv2.error as error:
                raise SessionError(f"OpenCV failed: {error.err}", subject=self._model_name) from error
        return tuple(np.array(output) for output in outputs)  # the network keeps its own

    def close(self) -> None:
        """Give the network back, after the run under way."""
        with self._lock:
            self._network = None


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    shape = tuple(axis.dim_param or int(axis.dim_value) for axis in tensor.shape.dim)
    return TensorSpec(value.name, "float32" if tensor.elem_type == 1 else "uint8", shape)
