"""Sources of images: where `yoloship predict` reads them from."""

from __future__ import annotations

from yoloship.sources.finding import IMAGE_SUFFIXES, FoundImages, ImageFiles, Skipped, find_images
from yoloship.sources.source import SOURCES, Frame, Source, open_source

__all__ = [
    "IMAGE_SUFFIXES",
    "SOURCES",
    "FoundImages",
    "Frame",
    "ImageFiles",
    "Skipped",
    "Source",
    "find_images",
    "open_source",
]
