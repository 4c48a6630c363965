"""Every call and property that the product uses is in these bindings, or is known to be absent and is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from helpers.tensorrt_calls import CALLS, PROPERTIES, SESSION_CALLS, SESSION_PROPERTIES, member, signatures
from yoloship.engine import BuildConfig
from yoloship.engine.network import check_features
from yoloship.errors import EngineError

if TYPE_CHECKING:
    from yoloship.engine import Flavour

RTX_ONLY = frozenset({"IBuilderConfig.set_compute_capability", "IBuilderConfig.num_compute_capabilities"})
SINCE = {
    "ICudaEngine.device_memory_size_v2": (10, 3),
    "HardwareCompatibilityLevel.SAME_COMPUTE_CAPABILITY": (10, 13),
}
"""The first of the tested versions that has it."""


def version(tensorrt: Flavour) -> tuple[int, ...]:
    return tuple(map(int, tensorrt.version.split(".")[:2]))


@pytest.mark.parametrize("path", [*CALLS, *PROPERTIES, *SESSION_CALLS, *SESSION_PROPERTIES])
def test_it_is_there_or_known_to_be_absent(tensorrt: Flavour, path: str) -> None:
    expected = path not in RTX_ONLY and version(tensorrt) >= SINCE.get(path, (10, 0))
    assert (member(tensorrt.module, path) is not None) == expected


@pytest.mark.parametrize("path", [path for path, names in {**CALLS, **SESSION_CALLS}.items() if names])
def test_it_takes_these_parameters(tensorrt: Flavour, path: str) -> None:
    if path in RTX_ONLY:
        return
    names = {**CALLS, **SESSION_CALLS}[path]
    assert names in [form[: len(names)] for form in signatures(member(tensorrt.module, path))]


def test_what_is_absent_is_refused_by_name(tensorrt: Flavour) -> None:
    with pytest.raises(
        EngineError, match=r"option targets has no effect here: it has no IBuilderConfig\.set_compute_cap"
    ):
        check_features(tensorrt, BuildConfig(targets=("sm89",)), has_device=True)
    config = BuildConfig(hardware_compatibility="same_compute_capability")
    if version(tensorrt) >= SINCE["HardwareCompatibilityLevel.SAME_COMPUTE_CAPABILITY"]:
        check_features(tensorrt, config, has_device=True)
        return
    with pytest.raises(EngineError, match=r"does not know it: expected .*, got SAME_COMPUTE_CAPABILITY"):
        check_features(tensorrt, config, has_device=True)
