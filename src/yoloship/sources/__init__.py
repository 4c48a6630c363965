"""What a user names as images, found: files, folders and patterns."""

from __future__ import annotations

from yoloship.sources.finding import IMAGE_SUFFIXES, FoundImages, Skipped, find_images

__all__ = ["IMAGE_SUFFIXES", "FoundImages", "Skipped", "find_images"]
