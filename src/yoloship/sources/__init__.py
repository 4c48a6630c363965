"""Where frames come from: picture files, folders and patterns."""

from __future__ import annotations

from yoloship.sources.pictures import PICTURE_SUFFIXES, find_pictures

__all__ = ["PICTURE_SUFFIXES", "find_pictures"]
