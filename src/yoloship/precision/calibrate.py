"""Measures the ranges of a network's activations on images, and checks whether the images suffice.

ONNX Runtime's calibrators measure. Feeds are made one at a time and then dropped, so a folder of any size fits into
memory. The caller chooses the images and must prepare them exactly as in use.
"""

from __future__ import annotations

import hashlib
import tempfile
import warnings
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from yoloship._util.text import tracked
from yoloship.detect.preprocess import as_image
from yoloship.errors import DependencyError, GraphError, InputError
from yoloship.graph.onnx_file import graph_bytes
from yoloship.runtime.onnxruntime.cpu import import_onnxruntime

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    import numpy.typing as npt
    import onnx

    from yoloship._util.text import OnProgress
    from yoloship.detect.detector import Source
    from yoloship.model import Calibrator

    Feeds = Mapping[str, npt.NDArray[np.generic]]


_ENTROPY_BINS: Final = 512
_PERCENTILE: Final = 99.999
FEW_IMAGES: Final = 50
"""With fewer distinct images than this, ranges depend on chance. NVIDIA's guides recommend 500 for ImageNet
classifiers. For the demo model, 24 scenes were enough (docs/precision.md)."""


def calibrate(
    model: onnx.ModelProto, names: Collection[str], feeds: Iterable[Feeds], calibrator: Calibrator
) -> Mapping[str, float]:
    """Measure how large activations get.

    Args:
        model: A float32 graph. ONNX Runtime runs it on the CPU. It is not changed.
        names: The float32 values to watch.
        feeds: For each run, an array for each input by name. They are iterated over once.
        calibrator: How outliers are treated.

    Returns:
        For each name, the magnitude that the quantized range should reach. It is finite, and above 0 if any value was
        not zero.

    Raises:
        GraphError: there are no feeds, or an activation is not finite.
        DependencyError: ONNX Runtime lacks its quantization tools.
    """
    with (
        tempfile.TemporaryDirectory(prefix="yoloship-") as folder,
        redirect_stdout(StringIO()),  # ONNX Runtime's tools print to stdout
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", RuntimeWarning)  # NumPy warns about numbers that are refused below
        path = Path(folder) / "model.onnx"
        path.write_bytes(graph_bytes(model))
        watcher = _watcher(path, set(names), calibrator)
        runs = 0
        for one in feeds:
            _collect(watcher, one)
            runs += 1
        if not runs:
            raise GraphError("there is nothing to calibrate with", subject=model.graph.name[:60], expected="images")
        found = watcher.compute_data().data
    ranges = {name: float(np.abs(np.asarray(found[name].range_value, np.float64)).max()) for name in names}
    if wild := sorted(name for name, value in ranges.items() if not np.isfinite(value)):
        raise _not_finite(wild[0][:80])
    return MappingProxyType(ranges)


def _collect(watcher: Any, feed: Feeds) -> None:
    """Collect one feed. If a value is not finite, the calibrator's own error does not say which; this one does."""
    try:
        watcher.collect_data(_OneFeed(feed))
    except ValueError as error:
        if "not finite" in str(error):
            raise _not_finite(None) from error
        raise GraphError(
            "the range of an activation cannot be measured",
            got=str(error)[:80],
            hint="the float32 model itself is broken, or use the calibrator minmax (--calibrator)",
        ) from error


def _not_finite(activation: str | None) -> GraphError:
    return GraphError("an activation is not finite", subject=activation, hint="the float32 model itself is broken")


def quantization_tools() -> Any:
    """ONNX Runtime's calibrators.

    Raises:
        DependencyError: they cannot be imported.
    """
    try:
        import_onnxruntime()
        from onnxruntime.quantization import calibrate as tools
    except ImportError as error:
        raise DependencyError(
            "ONNX Runtime's quantization tools cannot be imported", got=str(error)[:120], hint=f"install {error.name}"
        ) from error
    return tools


def _watcher(path: Path, names: set[str], calibrator: Calibrator) -> Any:
    tools = quantization_tools()
    augmented = str(path.with_name("augmented.onnx"))
    if calibrator == "minmax":
        watcher: Any = tools.MinMaxCalibrater(path, ["Conv"], augmented)
    elif calibrator == "entropy":
        watcher = tools.EntropyCalibrater(path, ["Conv"], augmented, num_bins=_ENTROPY_BINS, num_quantized_bins=128)
    elif calibrator == "percentile":
        watcher = tools.PercentileCalibrater(path, ["Conv"], augmented, num_bins=2048, percentile=_PERCENTILE)
    else:
        raise InputError(
            "no such calibrator", subject="calibrator", expected="minmax, entropy or percentile", got=repr(calibrator)
        )
    select = watcher.select_tensors_to_calibrate
    watcher.select_tensors_to_calibrate = lambda model: (names, select(model)[1])  # theirs takes all ends of all Convs
    watcher.augment_graph()
    watcher.create_inference_session()
    return watcher


class _OneFeed:
    """A calibration data reader with a single feed."""

    def __init__(self, feed: Feeds) -> None:
        self._left: list[Feeds] = [feed]

    def get_next(self) -> dict[str, npt.NDArray[np.generic]] | None:
        return dict(self._left.pop()) if self._left else None


@dataclass(frozen=True, slots=True)
class ImageSurvey:
    """The result of looking at all calibration images.

    Attributes:
        images: Number of images.
        copies: How many have exactly the pixels of an earlier image.
        plain: How many have a single colour, such as black frames.
    """

    images: int
    copies: int
    plain: int

    def warnings(self) -> Iterator[str]:
        """Warnings for the user, a sentence each."""
        distinct = self.images - self.copies
        if distinct < FEW_IMAGES:
            count = "1 calibration image" if self.images == 1 else f"{self.images} calibration images"
            yield (
                f"only {count}: ranges found on so few may not hold in use; take {FEW_IMAGES} or more images like "
                "those in use"
                if not self.copies
                else f"only {distinct} distinct images among {count}: ranges found on so few may not hold in use"
            )
        elif self.copies:
            yield f"{self.copies} of {self.images} calibration images are copies of others"
        if self.plain:
            yield f"{self.plain} of {self.images} calibration images have a single colour and are of no use"


def survey(sources: Sequence[Source], on_progress: OnProgress | None = None) -> ImageSurvey:
    """Look at all images once, before anything is calibrated.

    Args:
        sources: Images as `Detector.__call__` takes them. Only one at a time is in memory.
        on_progress: Called before each step.

    Raises:
        ImageError: an image cannot be read.
        InputError: every image has a single colour.
    """
    seen: set[bytes] = set()
    plain = 0
    for source in tracked(sources, "reading images", on_progress):
        image = as_image(source)
        digest = hashlib.sha256(repr(image.shape).encode())
        digest.update(np.ascontiguousarray(image).data)
        seen.add(digest.digest())
        plain += bool((image == image[:1, :1]).all())
    if plain == len(sources):
        raise InputError(
            "every image has a single colour, so there is nothing to calibrate with",
            subject="calibration images",
            expected="images like those in production",
            got=f"{plain} such as black frames",
        )
    return ImageSurvey(len(sources), len(sources) - len(seen), plain)
