"""Train a ResNet-18 on a folder of images: ``python tools/train_resnet/train_resnet.py --data kinds --out runs/kinds``.

--data has the folders train and val, each with one folder of images for each class, as ImageFolder reads them. The file
that is written is what most trainings write: a state_dict and class_to_idx. Images reach the network in the way that
torchvision's presets have (resize, centre crop, ImageNet's mean and standard deviation), with yoloship's own code.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import sys
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "src")]

import cv2  # noqa: E402 - after the path
import numpy as np  # noqa: E402
import numpy.typing as npt  # noqa: E402
import torch  # noqa: E402
from resnet18 import ResNet18  # noqa: E402

from yoloship.detect.preprocess import to_float  # noqa: E402
from yoloship.transforms import transform_of  # noqa: E402
from yoloship.transforms.crop import Crop  # noqa: E402

TRANSFORM = "torchvision-v1"
LARGER = 1.35
"""Training images are kept at this multiple of the input's side, and cut at random from there."""


@dataclass(frozen=True)
class Images:
    """A folder of images in memory.

    Attributes:
        pixels: (N, S, S, 3) uint8 BGR.
        class_ids: (N,) int64.
        names: By class id.
    """

    pixels: npt.NDArray[np.uint8]
    class_ids: npt.NDArray[np.int64]
    names: tuple[str, ...]


def read(folder: Path, side: int, *, cut: bool) -> Images:
    """Read a folder of classes; `cut` makes the crops that the network sees in use, else whole squares are kept."""
    names = tuple(sorted(entry.name for entry in folder.iterdir() if entry.is_dir()))
    pixels, ids = [], []
    transform = transform_of(TRANSFORM if cut else f"{TRANSFORM}:resize={side}", (side, side))
    for class_id, name in enumerate(names):
        for path in sorted((folder / name).iterdir()):
            image = cv2.imread(str(path))
            assert image is not None, path
            pixels.append(Crop.of((image.shape[0], image.shape[1]), transform).apply(np.asarray(image, np.uint8)))
            ids.append(class_id)
    return Images(np.stack(pixels), np.array(ids), names)


def varied(images: npt.NDArray[np.uint8], side: int, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """A random cut of each image, turned by a multiple of a right angle, perhaps mirrored, lighter or darker."""
    out = np.empty((len(images), side, side, 3), np.uint8)
    for place, image in enumerate(images):
        part = round(image.shape[0] * math.sqrt(rng.uniform(0.45, 1.0)))
        top, left = rng.integers(0, image.shape[0] - part + 1, 2)
        cut = cv2.resize(image[top : top + part, left : left + part], (side, side), interpolation=cv2.INTER_AREA)
        turned = np.rot90(np.asarray(cut), int(rng.integers(4)))
        out[place] = turned[:, :: -1 if rng.random() < 0.5 else 1]
    light = rng.uniform(0.7, 1.3, (len(images), 1, 1, 1))
    return np.clip(out * light + rng.uniform(-20, 20, light.shape), 0, 255).astype(np.uint8)


def tensor(images: npt.NDArray[np.uint8], side: int) -> torch.Tensor:
    """The network's input, normalised as in use."""
    return torch.from_numpy(to_float(np.ascontiguousarray(images), transform_of(TRANSFORM, (side, side))))


@torch.no_grad()
def accuracy(model: torch.nn.Module, images: Images, side: int) -> float:
    """The share of images whose most probable class is their own."""
    model.eval()
    right = 0
    for first in range(0, len(images.pixels), 256):
        scores = model(tensor(images.pixels[first : first + 256], side))
        right += int((scores.argmax(1).numpy() == images.class_ids[first : first + 256]).sum())
    model.train()
    return right / len(images.pixels)


def main() -> None:
    """Train, measure, save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--side", type=int, default=64, help="input side in pixels")
    parser.add_argument("--width", type=int, default=16, help="channels of the first layer; 64 is the published size")
    parser.add_argument("--rate", type=float, default=0.1, help="highest learning rate")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    cv2.setNumThreads(1)
    rng = np.random.default_rng(options.seed)
    started = time.monotonic()
    train = read(options.data / "train", round(options.side * LARGER), cut=False)
    val = read(options.data / "val", options.side, cut=True)
    assert train.names == val.names, "train and val have different classes"
    model = ResNet18(len(train.names), options.width)
    optimizer = torch.optim.SGD(model.parameters(), options.rate, momentum=0.9, weight_decay=5e-4, nesterov=True)
    steps = -(-len(train.pixels) // options.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.rate, total_steps=steps * options.epochs)
    print(f"{len(train.pixels)} images to train on, {len(val.pixels)} to measure, classes {', '.join(train.names)}")
    for epoch in range(options.epochs):
        order, total = rng.permutation(len(train.pixels)), 0.0
        for rows in np.array_split(order, steps):
            images = tensor(varied(train.pixels[rows], options.side, rng), options.side)
            scores = model(images)
            wanted = torch.from_numpy(train.class_ids[rows])
            loss = torch.nn.functional.cross_entropy(scores, wanted, label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(rows) / len(order)
        found = accuracy(model, val, options.side)
        entry = {"epoch": epoch, "loss": round(total, 4), "val": round(found, 4)}
        print(json.dumps({**entry, "s": round(time.monotonic() - started)}), flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    halves = {name: value.half() if value.is_floating_point() else value for name, value in model.state_dict().items()}
    torch.save(
        {
            "model_state_dict": halves,
            "class_to_idx": {name: class_id for class_id, name in enumerate(train.names)},
            "arch": "resnet18",
            "imgsz": options.side,
            "epoch": options.epochs,
            "accuracy": found,
            "versions": f"python {platform.python_version()}, torch {torch.__version__}, numpy {np.__version__}",
        },
        options.out / "best.pt",
    )
    print(f"{options.out / 'best.pt'}: top-1 accuracy {found:.4f}")


if __name__ == "__main__":
    main()
