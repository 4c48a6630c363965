"""Opens a dataset for a model, whatever form it has: `open_dataset`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from yoloship.datasets.dataset import refuse_split
from yoloship.datasets.label_form import label_form, overlap_of
from yoloship.errors import InputError

if TYPE_CHECKING:
    from yoloship._util.text import OnProgress
    from yoloship.datasets.dataset import Dataset
    from yoloship.model import ModelInfo


def open_dataset(
    path: Path | str,
    *,
    split: str = "val",
    info: ModelInfo,
    images: Path | None = None,
    on_progress: OnProgress | None = None,
) -> Dataset:
    """Read which images a dataset has, and what is in each.

    Args:
        path: One of these:

            - a ``.yaml`` file that names the folders of a dataset with YOLO label files;
            - a ``.json`` file in COCO's form;
            - a folder in Pascal VOC's form, with ``Annotations`` inside;
            - for classification, a folder that has a folder for each class, or has one for each split that does;
            - another folder of images, or a list of images, with YOLO label files.
        split: Which part of the dataset, as far as it has several: ``val``, ``test`` or ``train``.
        info: The model that is to be judged: its task says what the labels are about.
        images: The folder of the images of a COCO file; None looks where they usually are.
        on_progress: Called now and then.

    Raises:
        InputError: there is no such dataset, it is not for such a model, or a class has no name; the file and its line
            are named.
    """
    dataset = _opened(Path(path), split, info, images, on_progress)
    if not dataset.samples:
        raise InputError(
            f"has no image that can be used; {dataset.left_out:,} are left out", subject=dataset.name,
            got=f"first {dataset.faults[0]}",
        )  # fmt: skip
    return dataset


def _opened(path: Path, split: str, info: ModelInfo, images: Path | None, on_progress: OnProgress | None) -> Dataset:
    place = path
    if place.is_dir() and overlap_of(info) is not None and (place / "data.yaml").is_file():
        place = place / "data.yaml"
    if not place.exists():
        raise InputError("no such dataset", subject=str(path))
    suffix = "" if place.is_dir() else place.suffix.lower()
    is_voc = place.is_dir() and (place / "Annotations").is_dir()
    if images is not None and suffix != ".json":
        raise InputError("is for datasets in COCO format", subject="images", expected="a .json file", got=str(place))
    if overlap_of(info) is None:
        if suffix or not place.is_dir():
            raise InputError(
                "is not a dataset for classification", subject=str(path),
                expected="a folder that has a folder of images for each class",
            )  # fmt: skip
        from yoloship.datasets.class_folders import read_class_dataset

        return read_class_dataset(place, split, info, on_progress)
    if suffix == ".json":
        refuse_split(place, split)
        from yoloship.datasets.coco_file import read_coco

        return read_coco(place, info, images, on_progress)
    if is_voc:
        from yoloship.datasets.voc import read_voc

        return read_voc(place, split, info, on_progress)
    from yoloship.datasets.yolo import files_of_place, files_of_yaml, read_yolo

    form = label_form(info)
    if suffix not in {".yaml", ".yml"}:
        refuse_split(place, split)
    files = files_of_yaml(place, split) if suffix in {".yaml", ".yml"} else files_of_place(place)
    return read_yolo(files, form, info, on_progress)
