"""A batch on a Ray cluster: Ray Data sends the parts to actors, and sends them again if a node or an actor dies.

What travels is small: the names of images to the actors, the counts of parts back. An actor reads the images itself,
and writes the parts itself. The model travels as bytes in Ray's object store, and each actor checks their hash. A part
that is sent twice is written twice, with the same rows under the same name.

Ray Data has a checkpoint of its own (`ray.data.checkpoint`). It is not used: it keeps the id of every image in memory,
does not know the files of a run without Ray, and would be a second answer to the question which parts are done.
"""

from __future__ import annotations

import hashlib
import logging
import os
import signal
import socket
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from yoloship._util.cores import usable_cores
from yoloship._version import __version__
from yoloship.batch.folder import open_folder
from yoloship.batch.manifest import NAME
from yoloship.batch.parts import Counts
from yoloship.batch.worker import Job, Part, Worker
from yoloship.errors import DependencyError, InputError, SessionError, YoloshipError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HERE: Final = "local"
"""The address that stands for a cluster on this machine alone, which ends with the command."""
_CONNECT_S: Final = 5.0
_MAX_MANIFEST_BYTES: Final = 16 << 20
_STORE_BYTES: Final = 256 << 20
"""Memory of the object store of a cluster on this machine: it holds names, counts and the model."""


@dataclass(frozen=True, slots=True)
class Actors:
    """How many actors there are, and what each takes.

    Attributes:
        least: How many there are at least.
        most: How many there are at most; None for as many as the cluster has room for now.
        cpus: Cores of each.
        gpus: GPUs of each; 0.5 lets two share one.
    """

    least: int | None = None
    most: int | None = None
    cpus: int = 1
    gpus: float = 0


@dataclass(frozen=True, slots=True)
class Proof:
    """What an actor checks before it works.

    Attributes:
        version: The version of yoloship.
        model_sha256: The hash of the model's bytes.
        manifest_sha256: The hash of the manifest in the folder, which every node must see.
        image: A local image that every node must see, by its absolute path; empty if there is none.
    """

    version: str
    model_sha256: str
    manifest_sha256: str
    image: str = ""


class PartActor:
    """Does parts in a process of the cluster. Ray makes it; an error of ours is an answer, so that it is not retried.

    Args:
        job: What the batch is.
        proof: What must be true here.
        model: A list of one reference to the bytes of the model, which Ray fetches when it is asked.
        cpus: Cores to keep busy.
    """

    def __init__(self, job: Job, proof: Proof, model: Sequence[Any], cpus: int) -> None:
        import ray

        self._error = ""
        self._worker: Worker | None = None
        try:
            data: bytes = ray.get(model[0])
            _check(job, proof, data)
            on_cpu = job.load.get("device") in {None, "cpu"}
            self._worker = Worker(job, data, workers=cpus if on_cpu else None)
        except YoloshipError as error:
            self._error = f"node {_node()}: {error}"

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        """Do the parts of a block: ``number`` and ``names`` in, ``number``, ``counts`` and ``error`` out."""
        numbers: list[int] = []
        counts: list[str] = []
        try:
            if self._worker is None:
                raise SessionError(self._error)
            parts = (
                Part(int(number), [bytes(name).decode("utf-8", "surrogateescape") for name in names])
                for number, names in zip(batch["number"], batch["names"], strict=True)
            )
            for number, found in self._worker.write(parts):
                numbers.append(number)
                counts.append(found.to_json())
        except YoloshipError as error:
            text = str(error) if self._worker is None else f"node {_node()}: {error}"
            return {"number": [*numbers, -1], "counts": [*counts, ""], "error": [*([""] * len(numbers)), text]}
        return {"number": numbers, "counts": counts, "error": [""] * len(numbers)}


def _check(job: Job, proof: Proof, data: bytes) -> None:
    if __version__ != proof.version:
        raise InputError("another version of yoloship is installed", expected=proof.version, got=__version__,
                         hint="install the same on all nodes")  # fmt: skip
    if (got := hashlib.sha256(data).hexdigest()) != proof.model_sha256:
        raise SessionError("another model arrived", expected=f"SHA-256 {proof.model_sha256[:12]}…", got=f"{got[:12]}…")
    manifest = open_folder(job.folder).read(NAME, _MAX_MANIFEST_BYTES)
    if manifest is None or hashlib.sha256(manifest).hexdigest() != proof.manifest_sha256:
        raise InputError(
            "is not the folder of this batch here", subject=job.folder.partition("?")[0],
            hint="give a folder that all nodes share, or an object store",
        )  # fmt: skip
    if proof.image and not os.path.exists(proof.image):  # noqa: PTH110 - a text
        raise InputError(
            "does not exist here", subject=proof.image,
            hint="images must be on a file system that all nodes share, or in an object store",
        )  # fmt: skip


def _node() -> str:
    import ray

    return str(ray.util.get_node_ip_address())


@contextmanager
def connected(address: str, model_bytes: int) -> Iterator[None]:
    """Connect to a cluster, or start one on this machine, until the block ends.

    Args:
        address: ``HOST:PORT``, ``auto`` for the one that runs here, or `HERE`.
        model_bytes: The size of the model's file.

    Raises:
        DependencyError: Ray is not installed.
        InputError: there is no such cluster, or it is of another version.
    """
    if address == HERE:  # else Ray would listen at the machine's address in its network, as on a cluster
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    ray = _library()
    if ray.is_initialized():
        yield
        return
    try:
        if address != HERE:
            _see_that_it_answers(address)
        with _signals_kept():
            _init(ray, address, model_bytes)
    except (ConnectionError, TimeoutError, RuntimeError, ValueError) as error:
        said = " ".join(str(error).split())[:300]
        hint = "start one with 'ray start --head', or give --ray without an address"
        raise InputError(f"no Ray cluster to use: {said}", subject=f"--ray {address}", hint=hint) from error
    try:
        yield
    finally:
        ray.shutdown()


def _init(ray: Any, address: str, model_bytes: int) -> None:
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address != HERE:
        ray.init(address=address, **quiet)
        return
    ray.init(
        address="local", num_cpus=usable_cores(), include_dashboard=False, _node_ip_address="127.0.0.1",
        object_store_memory=_STORE_BYTES + 2 * model_bytes, **quiet,
    )  # fmt: skip


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Give the signals that end a process back to the command: Ray takes them, and prints a trace of its own."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        names = ("SIGINT", "SIGTERM", "SIGHUP")
        before = {number: signal.getsignal(number) for name in names if (number := getattr(signal, name, None))}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:  # it was not set from Python
                signal.signal(number, handler)


def _library() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would report to its makers
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        import ray
        import ray.data
        import ray.data.exceptions
    except ImportError as error:
        raise DependencyError("Ray is not installed", subject="--ray", hint="pip install 'yoloship[ray]'") from error
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    return ray


def _see_that_it_answers(address: str) -> None:
    """Refuse an address where nothing listens: Ray would try for a minute, and end the process."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "://" in address:
        raise InputError(
            "is not the address of a cluster", subject=f"--ray {address}", expected="HOST:PORT or auto",
            hint="run the command on a machine of the cluster, or with 'ray job submit'",
        )  # fmt: skip
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise InputError(f"cannot be reached: {error}", subject=f"--ray {address}",
                         hint="check the address, and that the cluster is running") from error  # fmt: skip


def write_on_cluster(
    job: Job, parts: Sequence[Part], model: bytes, proof: Proof, actors: Actors
) -> Iterator[tuple[int, Counts]]:
    """Let actors of the cluster do parts; this process is `connected`.

    Args:
        job: What the batch is.
        parts: What is left of it.
        model: The model's file.
        proof: What each actor checks.
        actors: How many there are.

    Yields:
        The number of each part that is written, and what is in it, in the order in which they are finished.

    Raises:
        InputError: the cluster has no room for an actor.
        SessionError: an actor has an error that no retry mends, or the cluster breaks.
    """
    ray = _library()
    least, most = _pool(ray, actors, len(parts))
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    reference = ray.put(model)
    rows = [
        {"number": part.number, "names": [name.encode("utf-8", "surrogateescape") for name in part.names]}
        for part in parts
    ]
    options: dict[str, Any] = {"num_cpus": actors.cpus}
    if actors.gpus:
        options["num_gpus"] = actors.gpus
    done = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        PartActor,
        batch_size=1,
        zero_copy_batch=True,
        compute=ray.data.ActorPoolStrategy(min_size=least, max_size=most),
        fn_constructor_args=(job, proof, [reference], actors.cpus),
        **options,
    )
    written: set[int] = set()
    try:
        for row in done.iter_rows():
            if row["error"]:
                raise SessionError(row["error"])
            if row["number"] not in written:
                written.add(row["number"])
                yield row["number"], Counts.from_json(row["counts"])
    except (ray.exceptions.RayError, ray.data.exceptions.SystemException) as error:
        said = next((line for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
        raise SessionError(
            f"the cluster failed: {said.strip()[:300]}",
            hint="finished parts are kept: run the same command with --resume to continue",
        ) from error


def _pool(ray: Any, actors: Actors, parts: int) -> tuple[int, int]:
    """The least and the most number of actors: by default all that the cluster has room for.

    Raises:
        InputError: it has room for none, or for fewer than asked.
    """
    has = ray.cluster_resources()
    room = int(has.get("CPU", 0) // actors.cpus)
    if actors.gpus:
        room = min(room, int(has.get("GPU", 0) / actors.gpus))
    least = actors.least or max(1, min(room, parts))
    if room < least and actors.most is None:
        each = f"{actors.cpus} CPU" + (f" and {actors.gpus:g} GPU" if actors.gpus else "")
        raise InputError(
            "the cluster is too small", subject="--actors", expected=f"room for {least} with {each} each",
            got=f"{has.get('CPU', 0):g} CPU and {has.get('GPU', 0):g} GPU",
            hint="request less, or give a range such as 1-16 if the cluster grows",
        )  # fmt: skip
    return least, max(least, min(actors.most or least, parts))
