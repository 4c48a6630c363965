"""Where results go: annotated images, JSON, a table."""

from __future__ import annotations

from yoloship.sinks.annotated import (
    AnnotatedImages,
    DrawStyle,
    annotated_names,
    fresh_folder,
    made_folder,
    write_picture,
)
from yoloship.sinks.base import Entry, Sink
from yoloship.sinks.json_file import JsonFile, JsonStream, json_bytes, open_json
from yoloship.sinks.tables import ImagesTable, detections_table, facts_table

__all__ = [
    "AnnotatedImages",
    "DrawStyle",
    "Entry",
    "ImagesTable",
    "JsonFile",
    "JsonStream",
    "Sink",
    "annotated_names",
    "detections_table",
    "facts_table",
    "fresh_folder",
    "json_bytes",
    "made_folder",
    "open_json",
    "write_picture",
]
