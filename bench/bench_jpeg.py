"""JPEG files through OpenCV, through simplejpeg, and through `read_image`: the same pixels, and how long they take.

    python bench/bench_jpeg.py [--rounds 9] [--sizes 1 8 20] [photo.jpg …]

The images are made at run time; photographs that are given are measured too, as they are.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent))

import cv2
import numpy as np
import simplejpeg
from _timing import conditions, interleaved
from PIL import Image

from yoloship.errors import ImageError
from yoloship.images import read_image

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt

SIDES = {1: (1000, 1000), 8: (2160, 3840), 20: (4000, 5000)}
KINDS: Mapping[str, tuple[str, dict[str, object]]] = {
    "4:2:0": ("RGB", {}),
    "4:4:4": ("RGB", {"subsampling": 0}),
    "4:2:2": ("RGB", {"subsampling": 1}),
    "4:1:1": ("RGB", {"subsampling": "4:1:1"}),
    "progressive": ("RGB", {"progressive": True}),
    "restart markers": ("RGB", {"restart_marker_rows": 1}),
    "grey": ("L", {}),
    "CMYK": ("CMYK", {}),
    "turned by Exif": ("RGB", {"exif": 6}),
}
PEAK = """
import re, sys
from pathlib import Path
data = Path(sys.argv[2]).read_bytes()
import cv2, numpy, simplejpeg
from yoloship.images import read_image
def most():
    return int(re.search("VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
before = most()
way = {
    "cv2.imdecode": lambda: cv2.imdecode(numpy.frombuffer(data, numpy.uint8), cv2.IMREAD_COLOR),
    "simplejpeg": lambda: simplejpeg.decode_jpeg(data, "BGR"),
    "read_image": lambda: read_image(data),
}[sys.argv[1]]
way()
print((most() - before) // 1024)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path, nargs="*")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIDES), choices=list(SIDES), help="megapixels")
    arguments = parser.parse_args()
    print(conditions("opencv-python-headless", "simplejpeg", "numpy"))
    print(f"{'file':34s} {'same':>5s} {'cv2 ms':>8s} {'simplejpeg':>11s} {'read_image':>11s}  peak MB of each")
    for name, data in files(arguments.sizes, arguments.photos):
        row(name, data, arguments.rounds)
    identity()


def files(sizes: list[int], photos: list[Path]) -> list[tuple[str, bytes]]:
    made = [(f"{size} megapixels, {kind}", made_file(SIDES[size], kind)) for size in sizes for kind in KINDS]
    return made + [(photo.name, photo.read_bytes()) for photo in photos]


def made_file(hw: tuple[int, int], kind: str) -> bytes:
    mode, options = KINDS[kind]
    options = dict(options)
    if "exif" in options:
        exif = Image.Exif()
        exif[0x0112] = options.pop("exif")
        options["exif"] = exif
    out = io.BytesIO()
    Image.fromarray(image(*hw)).convert(mode).save(out, "JPEG", quality=90, **options)
    return out.getvalue()


def image(height: int, width: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Soft shapes with a little noise: about 0.4 bytes a pixel at quality 90, as photographs have."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (height // 16 + 1, width // 16 + 1, 3), dtype=np.uint8)
    soft = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.int16)
    return np.clip(soft + rng.integers(-9, 10, soft.shape, dtype=np.int16), 0, 255).astype(np.uint8)


def row(name: str, data: bytes, rounds: int) -> None:
    coded = np.frombuffer(data, np.uint8)
    ways: dict[str, Callable[[], object]] = {
        "cv2.imdecode": lambda: cv2.imdecode(coded, cv2.IMREAD_COLOR),
        "simplejpeg": lambda: simplejpeg.decode_jpeg(data, "BGR"),
        "read_image": lambda: read_image(data),
    }
    same = np.array_equal(cv2.imdecode(coded, cv2.IMREAD_COLOR), read_image(data))
    timings = interleaved(ways, rounds, gap_s=0.02)
    base = timings["cv2.imdecode"]
    ratios = [
        np.median([mine / theirs for mine, theirs in zip(timings[way].seconds, base.seconds, strict=True)])
        for way in ("simplejpeg", "read_image")
    ]
    peaks = ", ".join(peak(way, data) for way in ways)
    print(
        f"{name:34s} {same!s:>5s} {base.median * 1e3:8.1f} {ratios[0]:10.2f}× {ratios[1]:10.2f}×  {peaks}", flush=True
    )


def peak(way: str, data: bytes) -> str:
    """How much decoding adds to the peak memory of a new process."""
    path = Path("/dev/shm/bench.jpg") if Path("/dev/shm").is_dir() else Path("bench.jpg")
    path.write_bytes(data)
    try:
        ran = subprocess.run([sys.executable, "-c", PEAK, way, path], capture_output=True, text=True, check=True)
    finally:
        path.unlink()
    return ran.stdout.strip()


def identity(count: int = 300) -> None:
    """Files of odd sizes and damaged files: if `read_image` gives pixels, they are the same as OpenCV's."""
    rng = np.random.default_rng(1)
    compared = differing = refused = 0
    for number in range(count):
        hw = int(rng.integers(1, 90)), int(rng.integers(1, 90))
        mode, options = list(KINDS.values())[number % 8]
        out = io.BytesIO()
        quality = int(rng.integers(1, 101))
        Image.fromarray(image(*hw, seed=number)).convert(mode).save(out, "JPEG", quality=quality, **options)
        data = bytearray(out.getvalue())
        if number % 3 == 0:
            data[int(rng.integers(len(data) // 2, len(data) - 2))] ^= 1 << int(rng.integers(8))
        try:
            pixels = read_image(bytes(data))
        except ImageError:
            refused += 1
            continue
        compared += 1
        differing += not np.array_equal(pixels, cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))
    print(f"\n{count} small files, a third with one bit flipped: {compared} compared, {differing} differ; {refused} "
          "refused as damaged")  # fmt: skip


if __name__ == "__main__":
    main()
