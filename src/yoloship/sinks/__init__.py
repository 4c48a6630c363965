"""Sinks of results: `SINKS` is the table of what `yoloship predict` can write.

A new sink is one file and one line here.
Other packages add sinks by entry points of the group ``yoloship.sinks``.
"""

from __future__ import annotations

from types import MappingProxyType

from yoloship._util.tables import Table
from yoloship.sinks.annotated import AnnotatedImages, DrawStyle, annotated_names, write_image
from yoloship.sinks.json_file import JsonFile, json_bytes
from yoloship.sinks.sink import Entry, Sink, TextSink

SINKS: Table[Sink] = Table(
    "yoloship.sinks",
    "sink",
    MappingProxyType(
        {
            "images": "yoloship.sinks.annotated:AnnotatedImages",
            "jsonl": "yoloship.sinks.json_lines:JsonLines",
            "json": "yoloship.sinks.json_file:JsonFile",
            "csv": "yoloship.sinks.csv_file:CsvFile",
            "coco": "yoloship.sinks.coco_results:CocoResults",
            "txt": "yoloship.sinks.yolo_labels:YoloLabels",
            "txt-conf": "yoloship.sinks.yolo_labels:ScoredLabels",
            "parquet": "yoloship.sinks.parquet_file:ParquetFile",
            "crops": "yoloship.sinks.crops:Crops",
        }
    ),
    base="yoloship.sinks.sink:Sink",
)
"""Name of a sink → its class, in the order of the help."""

__all__ = [
    "SINKS",
    "AnnotatedImages",
    "DrawStyle",
    "Entry",
    "JsonFile",
    "Sink",
    "TextSink",
    "annotated_names",
    "json_bytes",
    "write_image",
]
