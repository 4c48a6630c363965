"""Which label file belongs to which image: `label_paths`."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

from yoloship.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

LEVELS: Final = 4
"""Folders above the images' common one that may be repeated beside the labels: ``labels/train/a`` for ``train/a``."""


def label_paths(folder: Path, images: Sequence[Path]) -> list[Path]:
    """Find the label file of each image.

    Labels lie as the images do (``labels/a/1.txt`` for ``images/a/1.jpg``), or all in one folder (``labels/1.txt``).
    The layout that finds the most files is taken, and it has to explain all of them.

    Args:
        folder: Holds the labels.
        images: In any order.

    Returns:
        A path for each image; it need not exist.

    Raises:
        InputError: there is no label of any of these images, two images would share a file, or images have labels in
            different layouts.
    """
    if not images:
        return []
    layouts = _layouts([Path(os.path.abspath(image)) for image in images])  # noqa: PTH100 - links stay as they are
    candidates = [[folder / name for name in names] for names in layouts]
    counts = [sum(path.exists() for path in paths) for paths in candidates]
    if not any(counts):
        raise InputError(
            "holds no labels of these images", subject=str(folder), expected=f"{candidates[0][0].name} and so on"
        )
    best = counts.index(max(counts))
    _refuse_shared(candidates[best], images)
    _refuse_other_layouts(candidates, best, images)
    return candidates[best]


def _layouts(images: Sequence[Path]) -> list[list[str]]:
    """Names of the label files, by each way to keep them; the most natural way first."""
    try:
        common = Path(os.path.commonpath([image.parent for image in images]))
        roots = [common, *common.parents][: LEVELS + 1]
    except ValueError:  # on several drives
        roots = []
    layouts = [[image.relative_to(root) for image in images] for root in roots]
    layouts.append([Path(image.name) for image in images])
    return [[str(name.with_suffix(".txt")) for name in names] for names in layouts]


def _refuse_shared(paths: Sequence[Path], images: Sequence[Path]) -> None:
    """Two images of one label file, as ``a/1.jpg`` and ``b/1.jpg`` with labels kept by name alone."""
    counts = Counter(paths)
    for path, image in zip(paths, images, strict=True):
        if counts[path] > 1 and path.exists():
            others = [str(other) for own, other in zip(paths, images, strict=True) if own == path and other != image]
            raise InputError(
                "is the label file of several images",
                subject=str(path),
                got=", ".join([str(image), *others][:3]),
                hint="keep labels in folders like those of the images, or give the images other names",
            )


def _refuse_other_layouts(candidates: Sequence[Sequence[Path]], best: int, images: Sequence[Path]) -> None:
    """An image that has a label file only by another layout would count as empty in silence."""
    used = {path for path in candidates[best] if path.exists()}
    for place, image in enumerate(images):
        if candidates[best][place].exists():
            continue
        for paths in candidates:
            if paths[place] not in used and paths[place].exists():
                raise InputError(
                    "belongs to an image, but is not where the other labels are",
                    subject=str(paths[place]),
                    expected=str(candidates[best][place]),
                    hint=f"keep all labels in one layout; the image is {image}",
                )
