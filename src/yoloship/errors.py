"""What can go wrong, as a tree.

YoloshipError            everything below; ``except YoloshipError`` catches whatever yoloship raises on purpose
├── CheckpointError      bytes that are no checkpoint, or one that cannot be read safely
├── GraphError           a module tree, or an ONNX file, that cannot become the graph that was asked for
├── EngineError          a TensorRT engine that cannot be built, or does not fit what is installed here
├── SessionError         a runtime that refuses a model, or fails while it runs
├── InputError           an image, a source, an array or an option that cannot be taken
│   └── ImageError       bytes that are no readable picture, or one outside the limits
├── OutputError          a result that cannot be written
├── DownloadError        weights that cannot be fetched, or are not what was promised
├── DependencyError      an optional package that the request needs, and that is not installed
└── CudaError            a CUDA call that failed, with its code and name

Each message is one line: to which object, what, what was expected and found, and the next step. The same facts are
attributes, so that a program need not parse the sentence.
"""

from __future__ import annotations

from yoloship.escaping import visible


class YoloshipError(Exception):
    """Base of all errors raised on purpose.

    Args:
        problem: What went wrong, without the object's name in front.
        subject: The object it happened to: a path, a node, a tensor, an option.
        expected: What would have been right.
        got: What was there instead.
        hint: The next step for the user.
    """

    def __init__(
        self,
        problem: str,
        *,
        subject: str | None = None,
        expected: str | None = None,
        got: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(problem)
        self.problem = problem
        self.subject = subject
        self.expected = expected
        self.got = got
        self.hint = hint

    def __str__(self) -> str:
        facts = [
            f"{word} {value}" for word, value in (("expected", self.expected), ("got", self.got)) if value is not None
        ]
        text = self.problem
        if facts:
            text += f": {', '.join(facts)}"
        if self.hint:
            text += f"; {self.hint}"
        text = visible(" ".join(text.split()))
        return f"{_name(self.subject)}: {text}" if self.subject else text


def _name(subject: str) -> str:
    """A subject letter by letter, since it may be the name of a file; in quotes if it could not be seen otherwise."""
    return visible(subject) if subject.strip() == subject else f"'{visible(subject)}'"


class CheckpointError(YoloshipError):
    """Bytes that are no checkpoint, or one that cannot be read safely."""


class GraphError(YoloshipError):
    """A module tree, or an ONNX file, that cannot become the graph that was asked for."""


class EngineError(YoloshipError):
    """A TensorRT engine that cannot be built, or does not fit what is installed here."""


class SessionError(YoloshipError):
    """A runtime that refuses a model, or fails while it runs."""


class InputError(YoloshipError):
    """An image, a source, an array or an option that cannot be taken."""


class ImageError(InputError):
    """Bytes that are no readable picture, or a picture outside the limits."""


class OutputError(YoloshipError):
    """A result that cannot be written."""


class DownloadError(YoloshipError):
    """Weights that cannot be fetched, or are not what was promised."""


class DependencyError(YoloshipError):
    """An optional package that the request needs, and that is not installed."""


class CudaError(YoloshipError):
    """A CUDA call that failed.

    Args:
        code: The numeric error code that the driver or the runtime returned.
        name: Its symbolic name, ``CUDA_ERROR_OUT_OF_MEMORY`` for one.
        problem: See `YoloshipError`; so are the others.
        subject: The call or the object.
        expected: What would have been right.
        got: What was there instead.
        hint: The next step for the user.
    """

    def __init__(  # noqa: PLR0913 - the base's five facts and CUDA's two
        self,
        problem: str,
        *,
        code: int | None = None,
        name: str | None = None,
        subject: str | None = None,
        expected: str | None = None,
        got: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(problem, subject=subject, expected=expected, got=got, hint=hint)
        self.code = code
        self.name = name
