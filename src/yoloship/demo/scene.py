"""Scenes with exact boxes: a number makes an image of codes on parcels and shelves; also as a dataset on disk.

What counts. A code's box is the bounding box of its printed modules (quiet zone and caption excluded; a marker's black
border and the long guard bars of EAN-13 included) after perspective, clipped to the frame. A code half hidden keeps its
whole box. No code is made that cannot be answered: each has a box of at least 16 px a side, modules no finer than a
threshold of its kind, blur below what its modules bear, and at least 70 % of its area in sight. So every code is
labelled.

The same seed and size give the same bytes on every run with the same versions of NumPy and OpenCV. Other versions of
OpenCV may differ in lettering, in resampling by a grey level, and in the mask that a QR encoder chooses.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args
from uuid import uuid4

import cv2
import numpy as np
import numpy.typing as npt

from yoloship._util.strict_json import json_document
from yoloship._util.writing import write_bytes, write_error
from yoloship.demo import _paint, _surfaces
from yoloship.demo import _paint as _effects
from yoloship.demo._paint import Image, Rng, backdrop, chance
from yoloship.demo._surfaces import look_alike
from yoloship.errors import InputError, OutputError
from yoloship.evaluate.coco import Truth, coco_dataset

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from yoloship._util.text import OnProgress
    from yoloship.demo._surfaces import Kind, Surface


CLASS_NAMES: tuple[Kind, ...] = _surfaces.KINDS
HELD_OUT_SEED = 1_000_000_000
"""Training uses seeds below it; scenes from it on are for measuring, and their QR codes say texts of another pool."""
VISIBLE_SHARE = 0.7
_SMALLEST_TAG = {"qr_code": 36.0, "marker": 26.0, "barcode": 75.0}
MIN_SIDE, MAX_SIDE = 160, 4096

_Painter: TypeAlias = "Callable[[Rng, Surface], None]"
_Quad: TypeAlias = npt.NDArray[np.float64]
"""(4, 2): corners in scene pixels (edges, not centres), from the top left clockwise on the surface."""


@dataclass(frozen=True, slots=True)
class Scene:
    """An image and what is in it.

    Attributes:
        seed: What it was made from.
        image: (height, width, 3) uint8 BGR.
        boxes_xyxy: (N, 4) float32 pixels, clipped to the frame.
        class_ids: (N,) int64, into `CLASS_NAMES`.
        quads_xy: (N, 4, 2) float32: corners of the modules in pixels, not clipped, top left of the symbol first.
        texts: What each code says.
    """

    seed: int
    image: Image
    boxes_xyxy: npt.NDArray[np.float32]
    class_ids: npt.NDArray[np.int64]
    quads_xy: npt.NDArray[np.float32]
    texts: tuple[str, ...]


def make_scene(seed: int, size_hw: tuple[int, int] = (640, 640)) -> Scene:
    """Make the scene of a seed.

    Args:
        seed: From 0; `HELD_OUT_SEED` and above are for measuring.
        size_hw: Height and width in pixels.

    Raises:
        InputError: a negative seed, or a side outside 160..4096.
    """
    if seed < 0:
        raise InputError("is not a seed", subject=str(seed), expected="0 or more")
    if not all(MIN_SIDE <= side <= MAX_SIDE for side in size_hw):
        raise InputError("no such scene size", expected=f"sides of {MIN_SIDE} to {MAX_SIDE} px", got=str(size_hw))
    rng = np.random.Generator(np.random.PCG64(seed))
    stage = _Stage(rng, size_hw, pool=1 if seed >= HELD_OUT_SEED else 0)
    stage.fill()
    return stage.finish(seed)


@dataclass(slots=True)
class _Code:
    kind: Kind
    text: str
    quad: _Quad
    module_px: float
    area: float


class _Stage:
    """A scene while it is being put together.

    `_owner` says at half resolution which code (1-based) each pixel shows, `_shown` how many pixels each code has
    there.
    """

    def __init__(self, rng: Rng, size_hw: tuple[int, int], pool: int) -> None:
        self._rng = rng
        self._height, self._width = size_hw
        self._unit = min(size_hw) / 640
        self._pool = pool
        self._image = backdrop(rng, *size_hw)
        self._owner = np.zeros(((self._height + 1) // 2, (self._width + 1) // 2), np.uint8)
        self._shown = np.zeros(1, np.int64)
        self._codes: list[_Code] = []

    def fill(self) -> None:
        """Put surfaces of one of several compositions on the stage."""
        rng = self._rng
        composition = rng.random()
        if composition < 0.28:  # parcels
            for _ in range(int(rng.integers(1, 5))):
                self._place(_surfaces.parcel, _paint.log_uniform(rng, 170, 620), 0.6)
        elif composition < 0.50:  # a shelf: products and price tags
            for _ in range(int(rng.integers(2, 7))):
                self._place(_surfaces.package, _paint.log_uniform(rng, 130, 380), 0.35)
            for _ in range(int(rng.integers(1, 5))):
                self._place(self._tag("barcode"), _paint.log_uniform(rng, 75, 200), 0.35)
        elif composition < 0.64:  # posters
            for _ in range(int(rng.integers(1, 3))):
                self._place(_surfaces.poster, _paint.log_uniform(rng, 280, 640), 0.7)
        elif composition < 0.78:  # labels and pages
            for _ in range(int(rng.integers(1, 4))):
                self._place(_surfaces.label, _paint.log_uniform(rng, 200, 640), 0.8)
        elif composition < 0.88:  # one code, close
            kind = CLASS_NAMES[rng.integers(3)]
            self._place(self._tag(kind), rng.uniform(300, 720), 0.7)
        elif composition < 0.94:  # nothing but look-alikes
            for _ in range(int(rng.integers(1, 6))):
                self._place(_bluff, _paint.log_uniform(rng, 80, 500), 0.8)
        for _ in range(int(rng.integers(0, 6))):
            kind = CLASS_NAMES[rng.choice(3, p=(0.37, 0.27, 0.36))]
            self._place(self._tag(kind), _paint.log_uniform(rng, _SMALLEST_TAG[kind], 240), 1.0)
        if chance(rng, 0.25):
            self._place(_bluff, _paint.log_uniform(rng, 50, 200), 0.8)
        if self._codes and chance(rng, 0.35):
            for _ in range(int(rng.integers(1, 4))):
                self._cover()

    def finish(self, seed: int) -> Scene:
        """Light, lens, sensor and compression, then the labels."""
        finest = min((code.module_px for code in self._codes), default=3.0)
        image = _effects.photograph(self._rng, self._image, finest)
        quads = np.array([code.quad for code in self._codes], np.float64).reshape(-1, 4, 2)
        boxes = np.concatenate([quads.min(1), quads.max(1)], axis=1)
        limits = np.array([self._width, self._height, self._width, self._height], np.float64)
        return Scene(
            seed=seed,
            image=image,
            boxes_xyxy=np.clip(boxes, 0, limits).astype(np.float32),
            class_ids=np.array([CLASS_NAMES.index(code.kind) for code in self._codes], np.int64),
            quads_xy=quads.astype(np.float32),
            texts=tuple(code.text for code in self._codes),
        )

    def _tag(self, kind: Kind) -> _Painter:
        def paint_tag(rng: Rng, surface: Surface) -> None:
            _surfaces.tag(rng, surface, kind)

        return paint_tag

    def _place(self, painter: _Painter, size_px: float, slant: float) -> None:
        """Paint a surface, turn it in space, and put it where no code is lost; give up after some tries."""
        rng = self._rng
        long = size_px * self._unit
        short = long * (rng.uniform(0.32, 0.6) if size_px < 180 and chance(rng, 0.4) else rng.uniform(0.6, 1.0))
        width, height = (long, short) if chance(rng, 0.65) else (short, long)
        finer = float(np.clip(420 / long, 1.0, 1.6))
        size_hw = max(8, round(height * finer)), max(8, round(width * finer))
        surface = _surfaces.blank(size_hw, finer, self._pool)
        painter(rng, surface)
        for _ in range(8):
            matrix = self._pose(size_hw, 1 / finer, slant)
            if self._fits(surface, matrix):
                self._draw(surface, matrix)
                return

    def _pose(self, size_hw: tuple[int, int], scale: float, slant: float) -> npt.NDArray[np.float64]:
        """(3, 3) homography from surface pixels (edges) to scene pixels: a turned plane before a pinhole camera."""
        rng = self._rng
        height, width = size_hw[0] * scale, size_hw[1] * scale
        roll = rng.normal(0, 6) if chance(rng, 0.6) else rng.uniform(-180, 180)
        steep = 50 * slant
        yaw, pitch = np.radians(np.clip(rng.normal(0, steep / 2, 2), -steep, steep))
        turn = _rotation(np.radians(roll), pitch, yaw)
        focal = max(width, height) * rng.uniform(1.3, 4.0)
        plane = np.array([[scale, 0, -width / 2], [0, scale, -height / 2], [0, 0, 1]])
        camera = np.column_stack([turn[:, 0], turn[:, 1], [0, 0, focal]]) @ plane
        camera[:2] *= focal
        margin = 0.1 * min(width, height)
        centre_x = _within(rng, width / 2 - margin, self._width - width / 2 + margin)
        centre_y = _within(rng, height / 2 - margin, self._height - height / 2 + margin)
        return np.asarray(np.array([[1, 0, centre_x], [0, 1, centre_y], [0, 0, 1]]) @ camera)

    def _fits(self, surface: Surface, matrix: npt.NDArray[np.float64]) -> bool:
        """Whether every code on the surface is in sight and large enough, and none before it gets lost."""
        for item in surface.prints:
            quad = _project(_corners(item.rect_xyxy), matrix)
            low = np.clip(quad.min(0), 0, (self._width, self._height))
            high = np.clip(quad.max(0), 0, (self._width, self._height))
            if (high - low).min() < _surfaces.MIN_SIDE_PX:
                return False
            if self._module_px(item, quad) < _surfaces.MIN_MODULE_PX[item.kind]:
                return False
            if (quad < 0).any() or (quad > (self._width, self._height)).any():
                inside = np.zeros_like(self._owner)
                cv2.fillConvexPoly(inside, _half(quad), 1)
                if 4 * np.count_nonzero(inside) < (VISIBLE_SHARE + 0.05) * _area(quad):
                    return False
        height, width = surface.image.shape[:2]
        return self._may_cover(_project(_corners((0, 0, width, height)), matrix))

    def _module_px(self, item: _surfaces.Print, quad: _Quad) -> float:
        """The finest module of a print in scene pixels, by its shorter opposite sides."""
        x1, y1, x2, y2 = item.rect_xyxy
        sides = np.linalg.norm(quad - np.roll(quad, -1, axis=0), axis=1)
        across = min(sides[0], sides[2]) / (x2 - x1), min(sides[1], sides[3]) / (y2 - y1)
        return float(item.module_px * min(across))

    def _may_cover(self, polygon: _Quad) -> bool:
        """Whether enough of every code stays in sight when this polygon is painted over."""
        if not self._codes:
            return True
        points = _half(polygon)
        left, top = np.maximum(points.min(0), 0)
        right, bottom = np.minimum(points.max(0) + 1, self._owner.shape[::-1])
        if left >= right or top >= bottom:
            return True
        part = self._owner[top:bottom, left:right]
        if not part.any():
            return True
        mask = np.zeros(part.shape, np.uint8)
        cv2.fillPoly(mask, [points - np.array([left, top], np.int32)], 1)
        hidden = np.bincount((part * mask).reshape(-1), minlength=len(self._codes) + 1)
        return all(
            4 * (self._shown[i] - hidden[i]) >= VISIBLE_SHARE * code.area
            for i, code in enumerate(self._codes, 1)
            if hidden[i]
        )

    def _draw(self, surface: Surface, matrix: npt.NDArray[np.float64]) -> None:
        """Blend a surface in, with a shadow under it, and enter its codes."""
        height, width = surface.image.shape[:2]
        outline = _project(_corners((0, 0, width, height)), matrix)
        left, top = np.maximum(np.floor(outline.min(0)) - 1, 0).astype(int)
        right = min(self._width, int(np.ceil(outline[:, 0].max())) + 1)
        bottom = min(self._height, int(np.ceil(outline[:, 1].max())) + 1)
        if right - left < 2 or bottom - top < 2:
            return
        if chance(self._rng, 0.5):
            _effects.drop_shadow(self._rng, self._image, outline)
        # OpenCV counts from pixel centres, the boxes from pixel edges: half a pixel between the two.
        centred = _shift(-left - 0.5, -top - 0.5) @ matrix @ _shift(0.5, 0.5)
        size = (right - left, bottom - top)
        warped = cv2.warpPerspective(
            surface.image, centred, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        fine = np.zeros((bottom - top, right - left), np.uint8)
        fixed = np.round((outline - (left, top) - 0.5) * 16).astype(np.int32)
        cv2.fillConvexPoly(fine, fixed, 255, cv2.LINE_AA, 4)
        area = self._image[top:bottom, left:right]
        area[:] = _effects.blend(area, np.asarray(warped, np.uint8), fine)
        cv2.fillConvexPoly(self._owner, _half(outline), 0)
        for item in surface.prints:
            quad = _project(_corners(item.rect_xyxy), matrix)
            self._codes.append(_Code(item.kind, item.text, quad, self._module_px(item, quad), _area(quad)))
            cv2.fillConvexPoly(self._owner, _half(quad), len(self._codes))
        self._count()

    def _count(self) -> None:
        self._shown = np.bincount(self._owner.reshape(-1), minlength=len(self._codes) + 1)

    def _cover(self) -> None:
        """Tape, a sticker, a cable or a scratch across a code, as long as enough of it stays in sight."""
        rng = self._rng
        code = self._codes[rng.integers(len(self._codes))]
        for _ in range(4):
            shape = _effects.cover_shape(rng, code.quad)
            if self._may_cover(shape):
                mask = np.zeros((self._height, self._width), np.uint8)
                cv2.fillPoly(mask, [np.round(shape).astype(np.int32)], 255, cv2.LINE_AA)
                _effects.cover(rng, self._image, mask)
                cv2.fillPoly(self._owner, [_half(shape)], 0)
                self._count()
                return


def _bluff(rng: Rng, surface: Surface) -> None:
    """A surface with a look-alike and no code."""
    height, width = surface.image.shape[:2]
    ground = _paint.paper(rng) if chance(rng, 0.6) else _paint.vivid(rng)
    _paint.fill(surface.image, ground)
    pad = min(height, width) // 8
    look_alike(rng, surface.image, (pad, pad, width - 2 * pad, height - 2 * pad), (_paint.ink(rng), ground))


def _within(rng: Rng, low: float, high: float) -> float:
    return float(rng.uniform(low, high)) if low < high else (low + high) / 2 + float(rng.normal(0, 10))


def _rotation(roll: float, pitch: float, yaw: float) -> npt.NDArray[np.float64]:
    (cr, sr), (cp, sp), (cy, sy) = ((np.cos(a), np.sin(a)) for a in (roll, pitch, yaw))
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return np.asarray(about_z @ about_y @ about_x)


def _shift(x: float, y: float) -> npt.NDArray[np.float64]:
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]], np.float64)


def _corners(rect_xyxy: tuple[float, float, float, float]) -> _Quad:
    x1, y1, x2, y2 = rect_xyxy
    return np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]], np.float64)


def _project(points: _Quad, matrix: npt.NDArray[np.float64]) -> _Quad:
    homogeneous = np.column_stack([points, np.ones(len(points))]) @ matrix.T
    return np.asarray(homogeneous[:, :2] / homogeneous[:, 2:])


def _half(polygon: _Quad) -> npt.NDArray[np.int32]:
    """The polygon on the half-resolution owner map."""
    return np.round(polygon / 2 - 0.5).astype(np.int32)


def _area(quad: _Quad) -> float:
    x, y = quad[:, 0], quad[:, 1]
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)


DatasetFormat: TypeAlias = Literal["coco", "yolo"]
"""``coco``: ``images/`` and ``annotations.json``. ``yolo``: ``images/``, ``labels/`` with a text file an image, and
``data.yaml``."""

MAX_SCENES = 1_000_000
_JPEG = (cv2.IMWRITE_JPEG_QUALITY, 95)


@dataclass(frozen=True, slots=True)
class DatasetConfig:
    """Which scenes to write, and how.

    Attributes:
        count: Scenes, one a seed.
        first_seed: Seed of the first. Training of the bundled model used seeds below `HELD_OUT_SEED`.
        format: See `DatasetFormat`.
        size_hw: Height and width of each in pixels.

    Raises:
        InputError: a value is outside its range, or the seeds reach from those for training into the held-out ones.
    """

    count: int
    first_seed: int = 0
    format: DatasetFormat = "coco"
    size_hw: tuple[int, int] = (640, 640)

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MAX_SCENES:
            raise InputError("out of range", subject="count", expected=f"1 to {MAX_SCENES}", got=str(self.count))
        if self.format not in get_args(DatasetFormat):
            raise InputError(
                "no such format", subject="format", expected=" or ".join(get_args(DatasetFormat)), got=repr(self.format)
            )
        if self.first_seed < HELD_OUT_SEED < self.first_seed + self.count:
            raise InputError(
                "the seeds reach from those for training into those held out",
                subject="first_seed",
                expected=f"all below {HELD_OUT_SEED}, or none",
                got=f"{self.first_seed} to {self.first_seed + self.count - 1}",
            )


def write_dataset(folder: Path, order: DatasetConfig, on_progress: OnProgress | None = None) -> int:
    """Make scenes and write them with their labels; the same order gives the same bytes.

    Args:
        folder: Takes shape beside its final name, and bears that name only when it is whole. Must not exist yet.
        order: What to write.
        on_progress: Called after each scene; what it raises ends the work and leaves nothing.

    Returns:
        How many codes the scenes show.

    Raises:
        OutputError: the folder exists, or cannot be written.
        InputError: a seed or size that no scene has.
    """
    if folder.exists() or folder.is_symlink():
        raise OutputError("already exists", subject=str(folder), hint="give the name of a new folder")
    part = folder.with_name(f".{uuid4().hex}.part")
    try:
        (part / "images").mkdir(parents=True)
        codes = _fill(part, order, on_progress)
        part.rename(folder)
    except OSError as error:
        raise write_error(error, folder) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return codes


def _fill(folder: Path, order: DatasetConfig, on_progress: OnProgress | None) -> int:
    names: list[str] = []
    truths: list[Truth] = []
    if order.format == "yolo":
        (folder / "labels").mkdir()
    for done, seed in enumerate(range(order.first_seed, order.first_seed + order.count), 1):
        scene = make_scene(seed, order.size_hw)
        names.append(f"{seed:010d}.jpg")
        truths.append(Truth(scene.boxes_xyxy, scene.class_ids))
        (folder / "images" / names[-1]).write_bytes(_jpeg(scene))
        if order.format == "yolo":
            (folder / "labels" / f"{seed:010d}.txt").write_text(yolo_labels(scene), encoding="utf-8")
        if on_progress is not None:
            on_progress("making scenes", done, order.count)
    if order.format == "coco":
        document = coco_dataset(names, [order.size_hw] * order.count, truths, CLASS_NAMES)
        document["info"] = {"description": "Scenes of machine-readable codes", "first_seed": order.first_seed}
        write_bytes(folder / "annotations.json", json_document(document, indent=None))
    else:
        lines = ["train: images", "val: images", "names:", *(f"  {i}: {name}" for i, name in enumerate(CLASS_NAMES))]
        write_bytes(folder / "data.yaml", ("\n".join(lines) + "\n").encode())
    return sum(len(truth.class_ids) for truth in truths)


def yolo_labels(scene: Scene) -> str:
    """A line a code: class id, then centre x, centre y, width and height as shares of the image's sides."""
    height, width = scene.image.shape[:2]
    boxes = scene.boxes_xyxy.astype(np.float64) / (width, height, width, height)
    centres, sizes = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    return "".join(
        f"{class_id} {cx:.7f} {cy:.7f} {w:.7f} {h:.7f}\n"
        for class_id, (cx, cy), (w, h) in zip(scene.class_ids, centres, sizes, strict=True)
    )


def _jpeg(scene: Scene) -> bytes:
    done, data = cv2.imencode(".jpg", scene.image, _JPEG)
    assert done, "OpenCV encodes every image of a legal size"
    return data.tobytes()
