"""Sources of images: where `yoloship predict` reads them from."""

from __future__ import annotations

from yoloship._util.addresses import AddressRules
from yoloship.sources.finding import FoundImages, ImageFiles, Skipped, find_images
from yoloship.sources.recognise import IMAGE_SUFFIXES
from yoloship.sources.settings import LivePolicy, SourceOptions
from yoloship.sources.source import SOURCES, Frame, Source, Stream, open_source

__all__ = [
    "IMAGE_SUFFIXES",
    "SOURCES",
    "AddressRules",
    "FoundImages",
    "Frame",
    "ImageFiles",
    "LivePolicy",
    "Skipped",
    "Source",
    "SourceOptions",
    "Stream",
    "find_images",
    "open_source",
]
