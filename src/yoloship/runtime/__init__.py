"""What runs a model: one `Session` protocol, several runtimes."""

from __future__ import annotations

from yoloship.runtime.base import Session
from yoloship.runtime.onnxruntime.cpu import OnnxRuntimeSession
from yoloship.runtime.scripted import ScriptedSession

__all__ = ["OnnxRuntimeSession", "ScriptedSession", "Session"]
