"""Sound checkpoints, and what a fuzzer makes of them: as bytes, as containers, as streams of instructions."""

from __future__ import annotations

import contextlib
import pickletools
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from pathlib import Path

MAX_SEED_BYTES = 300_000
_PUSHES = frozenset(
    bytes([code]) for code in b"NIJKMLFGSTUVXBC])}hjg" + bytes((0x88, 0x89, 0x8A, 0x8B, 0x8C, 0x8D, 0x8E))
)
"""Instructions that push one value and take none."""
_NUMBERS = (b"J", b"K", b"M", b"G", b"I")
_WEIGHTS = (16, 2, 2)
"""How often forged files that are read, those that are refused, and the given files are drawn."""
_OPCODES = b"(.0123FIJKLMNPQRSTUVXabcdeghijlopqrstu})]G" + bytes(range(0x80, 0x99))


@dataclass(frozen=True, slots=True)
class Seed:
    """A sound file: its pickle, cut into instructions, and its storages; or the bytes of another container alone."""

    name: str
    pickle: bytes
    cuts: tuple[int, ...]
    storages: dict[str, bytes]
    whole: bytes


def cut(pickle: bytes) -> tuple[int, ...]:
    """Where its instructions begin, as far as they can be told apart."""
    found: list[int] = []
    with contextlib.suppress(Exception):  # a stream that breaks off has its first instructions all the same
        found.extend(position or 0 for _, _, position in pickletools.genops(pickle))
    return (*found, len(pickle))


@lru_cache(maxsize=512)
def _cached_cut(pickle: bytes) -> tuple[int, ...]:
    return cut(pickle)


def forged_seeds() -> list[Seed]:
    """Checkpoints made by this project: sound ones, and every attack."""
    from helpers import forge
    from helpers.hostile import PLACES, SPELLINGS, UNKNOWN

    codes: dict[str, bytes] = {f"spelling {name}": code for name, code in SPELLINGS.items()}
    codes |= {f"unknown {name}": code for name, code in UNKNOWN.items()}
    pickles = {"plain": forge.checkpoint(date=forge.text("2024"), opt=forge.table({"lr": forge.number(0.1)}))}
    for name, code in codes.items():
        pickles[f"{name} beside"] = forge.end(forge.table({"model": forge.model(), "optimizer": code}), 4)
        pickles[f"{name} inside"] = forge.end(forge.table({"model": forge.model({"x": code})}), 4)
    thing = forge.instance("mypkg.Thing") + b"r\xff\x00\x00\x00"
    for name, model in PLACES.items():
        code = b"}(" + forge.text("optimizer") + thing + forge.text("model") + model + b"u"
        pickles[f"memo {name}"] = forge.end(code)
    pickles |= network_pickles()
    seeds = []
    for name, pickle in pickles.items():
        seeds.append(Seed(name, pickle, cut(pickle), dict(forge.STORAGES), forge.zip_bytes(pickle)))
        seeds.append(Seed(f"{name}, legacy", pickle, cut(pickle), {}, forge.legacy_bytes(pickle)))
    return seeds


def network_pickles() -> dict[str, bytes]:
    """Wrapped, pruned, normed, named in every way, saved with dill."""
    from helpers import forge

    weight = forge.tensor(forge.storage("0", 24), (2, 3, 2, 2), (12, 4, 2, 1))
    length = forge.tensor(forge.storage("1", 3), (2, 1, 1, 1), (1, 1, 1, 1))
    state = {"name": forge.text("weight"), "dim": forge.integer(0), "_tensor_name": forge.text("weight")}

    def hooked(class_path: str, own: dict[str, bytes], buffers: dict[str, bytes]) -> bytes:
        hooks = b"}K\x01" + forge.instance(class_path, forge.table(state)) + b"s"
        layer = forge.module("torch.nn.modules.conv.Conv2d", {"_forward_pre_hooks": hooks}, own, buffers)
        return forge.model(extra={"1": layer})

    def inside(class_path: str, child: str, model: bytes) -> bytes:
        return forge.module(class_path, {"names": forge.text("a, b")}, modules={child: model})

    load = b"cdill._dill\n_load_type\n" + forge.row(forge.text("set")) + b"R" + forge.row(forge.EMPTY_LIST) + b"R"
    models = {
        "pruned": hooked("torch.nn.utils.prune.Identity", {"weight_orig": weight}, {"weight_mask": weight}),
        "normed": hooked("torch.nn.utils.weight_norm.WeightNorm", {"weight_v": weight, "weight_g": length}, {}),
        "wrapped": inside("models.common.AutoShape", "model", forge.model()),
        "averaged": inside("torch.optim.swa_utils.AveragedModel", "module", forge.model()),
        "an ensemble": inside("models.experimental.Ensemble", "0", forge.model()),
        "dill": forge.model({"buffers": load}),
        "names as text": forge.model({"names": forge.text("{0: 'a', 1: \"b\"}")}),
        "names by text": forge.model({"names": forge.table({"0": forge.text("a"), "1": forge.text("b")})}),
    }
    return {name: forge.end(forge.table({"ema": forge.NONE, "model": code})) for name, code in models.items()}


def file_seeds(folders: list[Path]) -> list[Seed]:
    """The small checkpoints of some folders."""
    seeds = []
    for path in sorted(file for folder in folders for file in folder.rglob("*.pt")):
        if path.stat().st_size > MAX_SEED_BYTES:
            continue
        whole = path.read_bytes()
        if not zipfile.is_zipfile(path):
            seeds.append(Seed(path.name, b"", (), {}, whole))
            continue
        with zipfile.ZipFile(path) as archive:
            root = next(name for name in archive.namelist() if name.endswith("data.pkl")).removesuffix("data.pkl")
            pickle = archive.read(f"{root}data.pkl")
            storages = {
                name.removeprefix(f"{root}data/"): archive.read(name)
                for name in archive.namelist()
                if name.startswith(f"{root}data/")
            }
        seeds.append(Seed(path.name, pickle, cut(pickle), storages, whole))
    return seeds


def values() -> list[bytes]:
    """Pieces of code that push one value each."""
    from helpers import forge
    from helpers.hostile import SPELLINGS, UNKNOWN

    plain = [
        forge.NONE,
        forge.TRUE,
        forge.EMPTY_LIST,
        forge.EMPTY_DICT,
        forge.EMPTY_TUPLE,
        b"\x8f",
        forge.number(1e308),
    ]
    plain += [forge.integer(number) for number in (0, 1, 2, -1, 255, 1 << 16, 1 << 24, 1 << 31, 1 << 40, 1 << 63)]
    plain += [forge.text(text) for text in ("", "weight", "model", "names", "_modules", "a, b", "0", "\x1b[2J")]
    plain += [b"h" + bytes([index]) for index in (0, 1, 2, 5, 9, 20, 60, 200)]
    tensors = [
        forge.tensor(forge.storage("0", 24), (24,), (1,)),
        forge.tensor(forge.storage("1", 3), (1 << 12, 1 << 10), (0, 0)),
        forge.tensor(forge.storage("1", 3), (0, 3), (3, 1)),
    ]
    modules = [forge.module("models.common.C3"), forge.model(), forge.module("fork.Block", {"x": forge.NONE})]
    return plain * 4 + tensors * 4 + modules * 4 + [*SPELLINGS.values(), *UNKNOWN.values()]


class Mutator:
    """Makes damaged files out of sound ones, the same for the same seed."""

    def __init__(self, rng: random.Random, pools: tuple[list[Seed], ...], names: list[str]) -> None:
        self._rng = rng
        self._pools = pools
        self._seeds = [seed for pool in pools for seed in pool]
        self._names = names
        self._values = values()

    def case(self) -> tuple[Seed, bytes]:
        """A seed and what became of it."""
        from helpers import forge

        rng = self._rng
        seed = rng.choice(rng.choices(self._pools, _WEIGHTS)[0])
        if not seed.pickle or rng.random() < 0.15:
            return seed, self._bytes(seed.whole, rng.randint(1, 4))
        pickle = seed.pickle
        for _ in range(rng.choice((1, 1, 1, 1, 1, 2, 3))):
            pickle = self._step(seed, pickle)
        if seed.storages:
            packed = zipfile.ZIP_DEFLATED if rng.random() < 0.05 else zipfile.ZIP_STORED
            return seed, forge.zip_bytes(pickle, seed.storages, method=packed)
        return seed, forge.legacy_bytes(pickle)

    def _step(self, seed: Seed, pickle: bytes) -> bytes:
        how = self._rng.choices(
            (self._value, self._name, self._number, self._instructions, self._bytes), (12, 3, 2, 3, 2)
        )[0]
        return how(pickle if self._rng.random() < 0.9 else seed.pickle)

    def _bytes(self, data: bytes, times: int = 1) -> bytes:
        """Overwrite, insert, delete, copy or cut a few bytes."""
        rng = self._rng
        for _ in range(times):
            size = len(data)
            at, span = rng.randint(0, size), rng.randint(0, 12)
            match rng.randrange(6):
                case 0 | 1:
                    patch = rng.randbytes(rng.randint(1, 4))
                    data = data[:at] + patch + data[at + len(patch) :]
                case 2:
                    data = data[:at] + bytes(rng.choices(_OPCODES, k=rng.randint(1, 6))) + data[at:]
                case 3:
                    data = data[:at] + data[at + span :]
                case 4:
                    start = rng.randint(0, size)
                    data = data[:at] + data[start : start + span * 4] + data[at:]
                case _:
                    data = data[:at] if rng.random() < 0.3 else data[: at + 1] + data[at:]
        return data

    def _run(self, pickle: bytes) -> tuple[int, int]:
        """Where some instructions of a stream begin and end."""
        cuts = _cached_cut(pickle)
        first = self._rng.randrange(len(cuts))
        return cuts[first], cuts[min(len(cuts) - 1, first + self._rng.randint(1, 12))]

    def _instructions(self, pickle: bytes) -> bytes:
        """Delete, double, move or replace some instructions, or take them from another file."""
        start, stop = self._run(pickle)
        match self._rng.randrange(4):
            case 0:
                return pickle[:start] + pickle[stop:]
            case 1:
                return pickle[:stop] + pickle[start:]
            case 2:
                to, _ = self._run(pickle)
                return pickle[:to] + pickle[start:stop] + pickle[to:]
        other = self._rng.choice(self._seeds)
        if len(other.cuts) < 2:
            return pickle
        first = self._rng.randrange(len(other.cuts) - 1)
        last = min(len(other.cuts) - 1, first + self._rng.randint(1, 40))
        piece = other.pickle[other.cuts[first] : other.cuts[last]]
        return pickle[:start] + piece + pickle[start if self._rng.random() < 0.5 else stop :]

    def _value(self, pickle: bytes) -> bytes:
        """Put another value in the place of one, so that what follows finds as many as before."""
        cuts = _cached_cut(pickle)
        places = [index for index in range(len(cuts) - 1) if pickle[cuts[index] : cuts[index] + 1] in _PUSHES]
        if not places:
            return pickle
        index = self._rng.choice(places)
        old = pickle[cuts[index] : cuts[index] + 1]
        alike = [value for value in self._values if value[:1] == old or (old in _NUMBERS and value[:1] in _NUMBERS)]
        new = self._rng.choice(alike if alike and self._rng.random() < 0.7 else self._values)
        return pickle[: cuts[index]] + new + pickle[cuts[index + 1] :]

    def _name(self, pickle: bytes) -> bytes:
        """Put another class or function in the place of one."""
        found = [match for match in range(len(pickle)) if pickle[match : match + 1] == b"c"]
        named = [at for at in found if 0 < pickle.find(b"\n", at) - at < 60]
        if not named:
            return pickle
        at = self._rng.choice(named)
        end = pickle.find(b"\n", pickle.find(b"\n", at) + 1) + 1
        module, _, name = self._rng.choice(self._names).rpartition(".")
        return pickle[:at] + b"c" + module.encode() + b"\n" + name.encode() + b"\n" + pickle[end:] if end else pickle

    def _number(self, pickle: bytes) -> bytes:
        """Put an extreme number in the place of an instruction."""
        from helpers import forge

        start, stop = self._run(pickle)
        number = self._rng.choice((0, -1, 1 << 16, 1 << 24, 1 << 31, 1 << 40, (1 << 63) - 1, 1 << 64, -(1 << 40)))
        return pickle[:start] + forge.integer(number) + pickle[start if self._rng.random() < 0.3 else stop :]
