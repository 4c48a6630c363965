"""Mistakes planted into the product, one in each forked process, and whether the bindings or the library notice them.

    python -m helpers.tensorrt_library.mistakes    # with the bindings, and two devices of the stand-in driver

Prints JSON: for each mistake the exit status of its process (0: nobody noticed) and what was said.
"""

from __future__ import annotations

import ctypes
import inspect
import json
import os
import sys
import tempfile
import textwrap
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

from helpers import tensorrt_standin as standin
from helpers.device_sessions import SIDES, ask, assert_same, expected, make_images, small
from helpers.tensorrt_library.host import library
from yoloship.cuda.device import Device
from yoloship.cuda.stream import Stream
from yoloship.engine import BuildConfig, Range, build_engine, builder, network
from yoloship.runtime import device_context, tensorrt, tensorrt_execution
from yoloship.runtime.tensorrt import TensorRTSession

if TYPE_CHECKING:
    from collections.abc import Callable

NOTICED = 3
"""Exit status of a process in which an exception ended the scenario."""


def run_once(folder: Path) -> None:
    """A session, a context, a run, and the right numbers."""
    images = make_images(2, 3, 32, 48)
    path = standin.write_plan(folder / "a.engine", small(), [{"images": SIDES}])
    with (
        Device.open() as device,
        Stream(device) as stream,
        TensorRTSession.open(path, device, flavour=standin.flavour()) as session,
        session.context({"images": images.shape}, stream) as context,
    ):
        assert_same(ask(context, images), expected(images))


def run_two_at_once(folder: Path) -> None:
    """Two contexts, so that the second gets an execution context without a profile."""
    images = make_images(1, 3, 16, 32)
    path = standin.write_plan(folder / "a.engine", small(), [{"images": SIDES}])
    with (
        Device.open() as device,
        Stream(device) as stream,
        TensorRTSession.open(path, device, flavour=standin.flavour()) as session,
        session.context({"images": images.shape}, stream),
        session.context({"images": images.shape}, stream) as second,
    ):
        assert_same(ask(second, images), expected(images))


def run_on_another_device(folder: Path) -> None:
    """A stream of the second device has to be refused, by whomever."""
    path = standin.write_plan(folder / "a.engine", small(), [{"images": SIDES}])
    with (
        Device.open(0) as device,
        Device.open(1) as other,
        Stream(other) as stream,
        TensorRTSession.open(path, device, flavour=standin.flavour()) as session,
        session.context({"images": (1, 3, 16, 16)}, stream),
    ):
        pass


def build(folder: Path) -> None:
    """An engine with a range of sizes."""
    (folder / "a.onnx").write_bytes(small().SerializeToString())
    config = BuildConfig(
        batch=Range(1, 2, 4), height=Range(32, 64, 96), width=Range(32, 32, 64), workspace_bytes=1 << 30
    )  # fmt: skip
    built = build_engine(folder / "a.onnx", config, flavour=standin.flavour())
    about, _ = standin.read_plan(built.plan)
    assert about["profiles"] == [{"images": [[1, 3, 32, 32], [2, 3, 64, 32], [4, 3, 96, 64]]}]


@dataclass(frozen=True, slots=True)
class Mistake:
    """One line of the product, and the line that takes its place.

    Attributes:
        where: The module that has the line, in one function or method.
        right: The line as it is.
        wrong: The mistake.
        scenario: What would then go wrong.
    """

    where: ModuleType
    right: str
    wrong: str
    scenario: Callable[[Path], None]

    def plant(self) -> None:
        """Change the function for this process, for all who have it."""
        having = [function for function in _functions(self.where) if self.right in inspect.getsource(function)]
        assert len(having) == 1, f"{self.where.__name__} has not one function with {self.right!r}"
        source = textwrap.dedent(inspect.getsource(having[0])).replace(self.right, self.wrong)
        names: dict[str, Any] = {}
        exec(compile(f"from __future__ import annotations\n{source}", "mistake", "exec"), vars(self.where), names)
        having[0].__code__ = names[having[0].__name__].__code__


def _functions(module: ModuleType) -> list[FunctionType]:
    """The functions of a module, and the methods of its classes."""
    kinds = [kind for kind in vars(module).values() if inspect.isclass(kind) and kind.__module__ == module.__name__]
    found = [thing for place in (module, *kinds) for thing in vars(place).values() if isinstance(thing, FunctionType)]
    return [function for function in found if function.__code__.co_filename == module.__file__]


_ADDRESS = "return DeviceTensor(spec.name, spec.dtype, shape, buffer.pointer)"
_FREED = "pointer = buffer.pointer; buffer.close(); return DeviceTensor(spec.name, spec.dtype, shape, pointer)"
_SIZE = "size_bytes = -(-max(unplaced.size_bytes, 1) // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES"
_SET_SHAPE = "self.execution.set_input_shape, name, shape)"
_PARSER = 'construct(flavour, "OnnxParser", messages, network, logger)'
_NO_NETWORK = 'construct(flavour, "OnnxParser", messages, builder.create_network(flags), logger)'
_FLAGS = "int(module.NetworkDefinitionCreationFlag.STRONGLY_TYPED)"

MISTAKES: dict[str, Mistake] = {
    "arguments of set_tensor_address in the wrong order": Mistake(
        tensorrt_execution, "tensor.name, tensor.pointer", "tensor.pointer, tensor.name", run_once
    ),
    "arguments of set_shape in the wrong order": Mistake(
        builder, "entry.minimum, entry.optimum", "entry.optimum, entry.minimum", build
    ),
    "a shape that is too short": Mistake(
        tensorrt_execution, _SET_SHAPE, _SET_SHAPE.replace("shape)", "shape[1:])"), run_once
    ),
    "memory that is freed too early": Mistake(device_context, _ADDRESS, _FREED, run_once),
    "memory that is too small": Mistake(device_context, _SIZE, "size_bytes = 256", run_once),
    "an address that is not set": Mistake(
        tensorrt, "set_addresses([*inputs, *outputs])", "set_addresses(inputs)", run_once
    ),
    "a profile that is not set": Mistake(
        tensorrt, "run.set_profile(profile, int(self._engine.num_optimization_profiles))", "pass",
        run_two_at_once,
    ),
    "a stream of another device": Mistake(
        tensorrt, "self._check_stream(stream)", "pass", run_on_another_device
    ),
    "the default stream": Mistake(
        tensorrt_execution, "execute_async_v3(self._stream.address)", "execute_async_v3(0)", run_once
    ),
    "a pool written as a number": Mistake(network, "module.MemoryPoolType.WORKSPACE", "0", build),
    "a flag written as a number": Mistake(network, _FLAGS, "1", build),
    "a network that dies before its parser reads": Mistake(network, _PARSER, _NO_NETWORK, build),
    "an engine that dies before its context": Mistake(
        tensorrt, "return self._engine.create_execution_context()",
        "made = self._engine.create_execution_context(); end_now(self._engine); return made", run_once,
    ),
}  # fmt: skip


def end_now(thing: Any) -> None:
    """Give up all references to an object, also those of others."""
    for _ in range(sys.getrefcount(thing) - 2):  # the argument here, and the argument of getrefcount
        ctypes.pythonapi.Py_DecRef(ctypes.py_object(thing))


def _outcome(work: Callable[[], None]) -> dict[str, Any]:
    """The exit status of a forked process that does this, and what it said."""
    with tempfile.TemporaryFile() as said:
        sys.stdout.flush()
        process = os.fork()
        if process == 0:
            os.dup2(said.fileno(), 2)
            status = NOTICED
            try:
                work()
                status = 0 if not library().faults else NOTICED
                os.write(2, "; ".join(library().faults).encode())
            except BaseException as error:
                os.write(2, f"{type(error).__name__}: {error}".encode()[:2000])
            os._exit(status)
        _, status = os.waitpid(process, 0)
        said.seek(0)
        return {"status": os.waitstatus_to_exitcode(status), "said": said.read().decode(errors="replace")}


def main() -> None:
    """Run every scenario as it is, then with each mistake."""
    vars(tensorrt)["end_now"] = end_now
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for scenario in (run_once, run_two_at_once, run_on_another_device, build):
            found[scenario.__name__] = _outcome(lambda run=scenario: run(Path(folder)))  # type: ignore[misc]
        for name, mistake in MISTAKES.items():

            def work(mistake: Mistake = mistake) -> None:
                mistake.plant()
                mistake.scenario(Path(folder))

            found[name] = _outcome(work)
    json.dump(found, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
