"""A batch on a Ray cluster of several nodes in this machine: what is killed costs no row, and doubles none."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from helpers import batches
from helpers.cli import Ran, run
from helpers.ray_cluster import ENVIRONMENT, Nodes, ray_cluster
from helpers.stores import s3_server
from yoloship._version import __version__
from yoloship.batch.cluster import Actors, Proof, write_on_cluster
from yoloship.batch.parts import Parts
from yoloship.batch.worker import Job, Part
from yoloship.errors import SessionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

COUNT = 120
pytestmark = [
    pytest.mark.ray,
    pytest.mark.filterwarnings("ignore"),  # Ray's own
    pytest.mark.skipif(sys.platform == "win32", reason="Ray has no clusters there"),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Nodes]:
    with ray_cluster(2) as running:
        yield running


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, pictures, and what a run without a cluster makes of them, one picture a part."""
    folder = tmp_path_factory.mktemp("batch")
    batches.write_model(folder)
    batches.write_pictures(folder / "in", COUNT)
    assert run(*command(folder, "here")).code == 0
    return folder


def command(folder: Path, out: str, *more: str) -> list[str]:
    """The command; a name in the rows is absolute, so that runs can be compared."""
    return ["batch", str(folder / "cat.onnx"), str(folder / "in"), "-o", str(folder / out), "--part-images", "1",
            "--max-failed", "0.5", *more]  # fmt: skip


def while_running(arguments: list[str], folder: Path, parts: int, act: Callable[[], None]) -> Ran:
    """Run a command in a thread, and do something as soon as there are so many parts."""
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run, *arguments)
        while len(batches.files(folder)) < parts and not running.done():
            time.sleep(0.01)
        act()
        return running.result()


def test_a_node_that_is_killed_in_mid_run_costs_no_row_and_doubles_none(cluster: Nodes, work: Path) -> None:
    there: list[int] = []

    def kill() -> None:
        there.append(len(batches.files(work / "killed")))
        cluster.kill()
        cluster.add()

    done = while_running(command(work, "killed", "--ray", cluster.address, "--actors", "2"), work / "killed", 20, kill)
    assert done.code == 0, done
    assert 20 <= there[0] < COUNT
    assert batches.files(work / "killed") == batches.files(work / "here")
    rows = batches.rows(work / "killed")
    assert [row["index"] for row in rows] == list(range(COUNT))
    assert sum(row["error"] is not None for row in rows) == sum(n % 13 == batches.BROKEN for n in range(COUNT))


def test_a_driver_that_is_killed_in_mid_run_is_gone_on_with(cluster: Nodes, work: Path) -> None:
    arguments = command(work, "resumed", "--ray", cluster.address, "--actors", "2", "--resume")
    program = [sys.executable, "-m", "yoloship", *arguments]
    with subprocess.Popen(program, stderr=subprocess.PIPE, text=True, env=os.environ | ENVIRONMENT) as process:
        assert process.stderr is not None
        while len(batches.files(work / "resumed")) < 10:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.01)
        process.kill()
    there = len(batches.files(work / "resumed"))
    assert 10 <= there < COUNT
    again = run(*arguments)
    assert again.code == 0, again
    assert f"of {COUNT} images done before" in again.err
    assert batches.files(work / "resumed") == batches.files(work / "here")


def test_images_and_results_in_an_object_store_are_those_of_a_run_here(cluster: Nodes, work: Path) -> None:
    with s3_server() as store:
        store.put("raycams")
        for index in range(10):
            store.put(f"raycams/{index:03}.png", batches.picture(index))
        query = f"?endpoint_override={store.endpoint}&scheme=http"  # the nodes have another environment
        source, more = f"s3://raycams/{query}", ("--part-images", "4", "--max-failed", "1")
        model = str(work / "cat.onnx")
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("AWS_ENDPOINT_URL")
            there = run("batch", model, source, "-o", f"s3://raycams/out{query}", *more, "--ray", cluster.address)
            here = run("batch", model, source, "-o", str(work / "s3"), *more)
        assert (there.code, here.code) == (0, 0), (there, here)
        import pyarrow.fs

        filesystem = pyarrow.fs.FileSystem.from_uri(f"s3://raycams{query}")[0]
        for name, data in batches.files(work / "s3").items():
            with filesystem.open_input_file(f"raycams/out/{name}") as file:
                assert file.read() == data


def test_an_actor_that_does_not_see_the_images_does_not_work(cluster: Nodes, work: Path) -> None:
    (work / "strange").mkdir()
    (work / "strange" / "_yoloship.json").write_bytes(b"{}")
    data = (work / "cat.onnx").read_bytes()
    job = Job(str(work / "strange"), Parts(1, 1, "jsonl"), "cat.onnx", str(work))
    hashes = hashlib.sha256(data).hexdigest(), hashlib.sha256(b"{}").hexdigest()
    proof = Proof(__version__, *hashes, "/nowhere/a.jpg")
    with pytest.raises(SessionError, match=r"^node 127\.0\.0\.1: /nowhere/a\.jpg: does not exist here; images must be"):
        list(write_on_cluster(job, [Part(0, ["in/000.png"])], data, proof, Actors()))
    assert batches.files(work / "strange") == {}
