"""Where results go: annotated pictures, JSON, a table."""

from __future__ import annotations

from yoloship.sinks.pictures import fresh_folder, plan_file, plan_outputs, write_picture
from yoloship.sinks.records import json_bytes
from yoloship.sinks.tables import detections_table, facts_table, pictures_table

__all__ = [
    "detections_table",
    "facts_table",
    "fresh_folder",
    "json_bytes",
    "pictures_table",
    "plan_file",
    "plan_outputs",
    "write_picture",
]
