"""Fuzz the checkpoint reader: mutated files must be read or refused, and nothing else may ever happen.

    python tools/fuzz/checkpoints.py --count 100000 --seed 1 --processes 2 [FOLDER …]

The seeds are files of this project's own (tests/helpers/forge.py, the attacks of tests/attacks/checkpoint) and every
small checkpoint in the folders that are named. Each is mutated as bytes, as a container and as a stream of
instructions; the result is read, every tensor in it is touched, and the graph builder gets it. Held against each case:

- an audit hook hears no import, no code, no process, no socket, no file opened for writing;
- no error but CheckpointError and GraphError, whose message is one printable line;
- the address space of the process is limited, and no case may take longer than its time.

Exit code 0 if all cases passed. A case that failed is written to --keep, and `--replay FILE` tries it again.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(Path(__file__).parent), str(ROOT / "tests")]

ADDRESS_SPACE_BYTES = 3 << 30
CASE_CPU_S = 60
MAX_TENSOR_BYTES = 4 << 20
EXPORT_SHARE = 0.25
"""The share of readable cases for which a graph is built too, because that takes ten times as long as reading."""


@dataclass
class Tally:
    """What came of the cases."""

    cases: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    worst_cpu_s: float = 0.0
    worst_case: str = ""
    peak_bytes: int = 0


def touch(value: Any, budget: list[int]) -> None:
    """Look at everything that a record holds, as the graph builder and the printers do."""
    import numpy as np

    from yoloship.checkpoint import Module, Opaque, Tensor

    if isinstance(value, Tensor):
        nbytes = value.size * 8
        if nbytes <= min(MAX_TENSOR_BYTES, budget[0]):
            budget[0] -= nbytes
            assert value.numpy().shape == value.shape
            assert value.float64().shape == value.shape
    elif isinstance(value, Module):
        for table in (value.attributes, value.parameters, value.buffers, value.children):
            for name, entry in table.items():
                assert isinstance(name, str)
                touch(entry, budget)
    elif isinstance(value, dict):
        for entry in value.values():
            touch(entry, budget)
    elif isinstance(value, list | tuple | frozenset):
        for entry in value:
            touch(entry, budget)
    elif isinstance(value, Opaque):
        touch(value.arguments, budget)
    else:
        assert value is None or isinstance(value, bool | int | float | str | bytes | np.ndarray), type(value)


def examine(data: bytes, *, export: bool) -> str:
    """Read a case and use all of it; what came of it in a word.

    Raises:
        AssertionError: a record holds what it may not, or a message is not one line.
        Exception: an error that should never be raised.
    """
    from yoloship.checkpoint import read_checkpoint
    from yoloship.errors import CheckpointError, GraphError
    from yoloship.graph import GraphConfig, build_graph

    stage = "reading"
    try:
        checkpoint = read_checkpoint(data)
        stage = "touching"
        budget = [4 * MAX_TENSOR_BYTES]
        touch(checkpoint.module, budget)
        for entry in checkpoint.metadata.values():
            touch(entry, budget)
        assert all(isinstance(name, str) for name in checkpoint.class_names)
        assert checkpoint.module.parameter_count() >= 0
        if not export:
            return "read"
        stage = "exporting"
        build_graph(checkpoint, GraphConfig((64, 64)))
    except (CheckpointError, GraphError) as error:
        text = str(error)
        assert text.isprintable(), text
        assert len(text) < 1500, text
        return f"refused while {stage}"
    return "exported"


def work(job: tuple[int, int, list[Path], Path | None]) -> Tally:
    """One process's share of the cases."""
    number, count, folders, keep = job
    import resource

    from mutations import Mutator, file_seeds, forged_seeds

    from helpers.hostile import HARMLESS, MENTIONED
    from helpers.watched import CODECS, Watch

    seeds = forged_seeds()
    files = file_seeds(folders)
    for codec in CODECS:
        "".encode(codec)
    # Whatever is imported inside functions is imported now.
    refused = {seed.name for seed in (*seeds, *files) if examine(seed.whole, export=True) == "refused while reading"}
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES))
    real = ["models.common.Conv", "models.common.C3", "torch.nn.modules.conv.Conv2d", "collections.OrderedDict"]
    sound = [seed for seed in seeds if seed.name not in refused]
    pools = (sound, [seed for seed in seeds if seed.name in refused], files or sound)
    mutator = Mutator(random.Random(number), pools, [*MENTIONED, *HARMLESS, *real])
    chance = random.Random(number + 1)
    watch, tally, names = Watch(), Tally(), {seed.name for seed in files}
    for index in range(count):
        seed, data = mutator.case()
        export = seed.name not in names or chance.random() < EXPORT_SHARE
        started, fault = time.process_time(), ""
        with watch:
            try:
                said = examine(data, export=export)
            except BaseException as error:
                said, fault = "fault", f"{type(error).__name__}: {error}"
        spent = time.process_time() - started
        fault = fault or ", ".join(watch.events) or (f"took {spent:.0f} s" if spent > CASE_CPU_S else "")
        tally.cases += 1
        tally.outcomes[said] += 1
        if spent > tally.worst_cpu_s:
            tally.worst_cpu_s, tally.worst_case = spent, f"{seed.name}, {len(data)} bytes"
        if fault:
            tally.faults.append(f"case {number}-{index} of {seed.name}: {fault[:300]}")
            if keep is not None:
                keep.mkdir(parents=True, exist_ok=True)
                (keep / f"{number}-{index}.pt").write_bytes(data)
    tally.peak_bytes = _peak_bytes()
    return tally


def _peak_bytes() -> int:
    """The most memory that this process has had. `getrusage` would count its parent's from before the exec, too."""
    import resource

    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return int(fields["VmHWM"].split()[0]) << 10


def main() -> int:
    """Run, and print the tally as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folders", nargs="*", type=Path, help="Folders of checkpoints to mutate as well.")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="Where cases that failed are written.")
    parser.add_argument("--replay", type=Path, help="Try one file again, and let its error through.")
    given = parser.parse_args()
    if given.replay is not None:
        print(examine(given.replay.read_bytes(), export=True))
        return 0
    share = -(-given.count // given.processes)
    jobs = [(given.seed * 1000 + number, share, given.folders, given.keep) for number in range(given.processes)]
    started = time.monotonic()
    if len(jobs) == 1:
        tallies = [work(jobs[0])]
    else:
        with multiprocessing.get_context("spawn").Pool(len(jobs)) as pool:
            tallies = pool.map(work, jobs)
    outcomes: Counter[str] = Counter()
    for tally in tallies:
        outcomes += tally.outcomes
    worst = max(tallies, key=lambda tally: tally.worst_cpu_s)
    faults = [fault for tally in tallies for fault in tally.faults]
    report = {
        "cases": sum(tally.cases for tally in tallies),
        "outcomes": dict(outcomes.most_common()),
        "worst_cpu_s": round(worst.worst_cpu_s, 2),
        "worst_case": worst.worst_case,
        "peak_mb": max(tally.peak_bytes for tally in tallies) >> 20,
        "elapsed_s": round(time.monotonic() - started),
        "faults": faults,
    }
    print(json.dumps(report, indent=1))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
