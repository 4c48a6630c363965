"""A folder of images as an older commit runs it, in a process of its own, beside the rounds of `gpu_media.py`.

python bench/_before.py MODEL DEVICE IMGSZ      # names of files as JSON in the first line, then a line for each round
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

WARM_S = 25.0
"""The first passes end after this time, or when one is at most 10 % faster than the last."""


@contextmanager
def before(
    folder: Path, model: Path, names: Sequence[Path], device: str, imgsz: int | None
) -> Iterator[Callable[[], dict[str, Any]]]:
    """Load the older commit and run its first passes; gives what runs one more and tells of it.

    Args:
        folder: Has the `src` of the older commit.
        model: The checkpoint.
        names: The images of a pass.
        device: ``cuda`` or ``cpu``.
        imgsz: None takes the checkpoint's.

    Yields:
        Runs the images once: ``rate`` in images a second, ``boxes`` of each image, ``warm`` with the rates of the
        first passes, ``loading_s``, and ``place``, where the package was imported from.

    Raises:
        RuntimeError: its process ended.
    """
    paths = [str(folder / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
    process = subprocess.Popen(
        [sys.executable, __file__, str(model.resolve()), device, str(imgsz or 0)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    given, told = process.stdin, process.stdout

    def one_pass(line: str = "") -> dict[str, Any]:
        with suppress(BrokenPipeError):  # then there is no answer either
            print(line, file=given, flush=True)
        answer = told.readline()
        if not answer:
            raise RuntimeError(f"the process with {folder} ended with {process.wait()}")
        found: dict[str, Any] = json.loads(answer)
        return found

    try:
        one_pass(json.dumps([str(name) for name in names]))
        yield one_pass
    finally:
        with suppress(BrokenPipeError):
            given.close()
        process.wait()
        told.close()


def main(model: str, device: str, imgsz: str) -> None:
    """Use nothing of this commit: `yoloship` is the older one here, and of it only what both have."""
    answers = os.fdopen(os.dup(1), "w")  # what a library prints must not come between the answers
    os.dup2(2, 1)
    import yoloship

    names = json.loads(sys.stdin.readline())
    began = time.perf_counter()
    how: dict[str, Any] = {"imgsz": int(imgsz)} if int(imgsz) else {}
    with yoloship.load(model, device=device, **how) as detector:
        detector.prepare()
        loading_s = round(time.perf_counter() - began, 2)
        warm: list[float] = []
        while len(warm) < 2 or (warm[-1] > 1.1 * warm[-2] and time.perf_counter() - began < WARM_S):
            warm.append(round(_rate(detector, names)[0], 1))
        facts = {"warm": warm, "loading_s": loading_s, "place": yoloship.__file__}
        print(json.dumps(facts), file=answers, flush=True)
        for _ in sys.stdin:
            rate, boxes = _rate(detector, names)
            print(json.dumps({"rate": rate, "boxes": boxes, **facts}), file=answers, flush=True)


def _rate(detector: Any, names: list[str]) -> tuple[float, list[int]]:
    began = time.perf_counter()
    boxes = [len(outcome.unwrap()) for outcome in detector.stream(names)]
    return len(names) / (time.perf_counter() - began), boxes


if __name__ == "__main__":
    main(*sys.argv[1:])
