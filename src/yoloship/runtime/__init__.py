"""What runs a model: one `Session` protocol, several runtimes."""

from __future__ import annotations

from yoloship.runtime.onnxruntime import OnnxRuntimeSession
from yoloship.runtime.scripted import ScriptedSession
from yoloship.runtime.session import Session

__all__ = ["OnnxRuntimeSession", "ScriptedSession", "Session"]
