"""A worker writes each part when its last image is answered, with a row for each image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from helpers import batches
from yoloship.batch import worker as worker_module
from yoloship.batch.parts import Counts, Parts
from yoloship.batch.worker import Job, Part, Worker
from yoloship.errors import CudaError, InputError, OutputError, SessionError

if TYPE_CHECKING:
    from yoloship.detect.stream import Outcome

NAMES = [f"in/{index:03}.png" for index in range(8)]


def job(tmp_path: Path, **changes: Any) -> Job:
    batches.write_pictures(tmp_path / "in", 7)  # the last name has no file
    (tmp_path / "out").mkdir(exist_ok=True)
    return Job(str(tmp_path / "out"), Parts(8, 3, "jsonl"), "cat.onnx", str(tmp_path), **changes)


def parts() -> list[Part]:
    return [Part(0, NAMES[:3]), Part(1, NAMES[3:6]), Part(2, NAMES[6:])]


def test_each_part_has_its_images_in_order_and_errors_are_rows(tmp_path: Path) -> None:
    with Worker(job(tmp_path), batches.write_model(tmp_path)) as worker:
        done = list(worker.write(parts()))
    assert [number for number, _ in done] == [0, 1, 2]
    assert [counts for _, counts in done] == [
        Counts(3, 0, {"cat": 3}), Counts(3, 1, {"cat": 2}), Counts(2, 1, {"cat": 1})
    ]  # fmt: skip
    rows = batches.rows(tmp_path / "out")
    assert [(row["input"], row["index"]) for row in rows] == [(name, index) for index, name in enumerate(NAMES)]
    assert [row["error"].split(":")[0] for row in rows if "error" in row] == ["in/005.png", "in/007.png"]


def test_the_bytes_of_a_model_do_the_same_and_its_errors_have_its_name(tmp_path: Path) -> None:
    with Worker(job(tmp_path), batches.write_model(tmp_path).read_bytes(), workers=1) as worker:
        list(worker.write(parts()))
    assert len(batches.rows(tmp_path / "out")) == 8
    with pytest.raises(SessionError, match=r"^cat\.onnx: "):
        Worker(job(tmp_path), b"not a model")


def test_classes_are_chosen_by_the_names_of_the_model(tmp_path: Path) -> None:
    with Worker(job(tmp_path, class_words=("dog",)), batches.write_model(tmp_path)) as worker:
        done = list(worker.write(parts()))
    assert [counts.objects for _, counts in done] == [{}, {}, {}]
    with pytest.raises(InputError, match="horse"):
        Worker(job(tmp_path, class_words=("horse",)), batches.write_model(tmp_path))


def test_what_is_not_about_one_image_ends_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(outcome: Outcome) -> None:
        object.__setattr__(outcome, "error", CudaError("the GPU is lost"))
        return before(outcome)  # type: ignore[return-value]

    before = worker_module._entry
    monkeypatch.setattr(worker_module, "_entry", lost)
    with Worker(job(tmp_path), batches.write_model(tmp_path)) as worker, pytest.raises(CudaError):
        list(worker.write(parts()))
    assert batches.files(tmp_path / "out") == {}


def test_a_part_that_cannot_be_written_ends_the_work(tmp_path: Path) -> None:
    one = job(tmp_path)
    with Worker(one, batches.write_model(tmp_path)) as worker:
        (tmp_path / "out").rmdir()
        with pytest.raises(OutputError, match=r"part-00000\.jsonl: cannot be written"):
            list(worker.write(parts()))


def test_images_are_read_ahead_only_as_far_as_needed(tmp_path: Path) -> None:
    drawn: list[int] = []

    def endless() -> Any:
        for number in range(1000):
            drawn.append(number)
            yield Part(number, [NAMES[0]])

    one = job(tmp_path)
    with Worker(one, batches.write_model(tmp_path), workers=1) as worker:
        work = worker.write(endless())
        next(work)
        del work  # drops the stream
    assert len(drawn) < 50
