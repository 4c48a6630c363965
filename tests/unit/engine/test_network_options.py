"""Options on stand-ins for other flavours: each is set and read back, or refused."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from yoloship.engine import BuildConfig, Flavour
from yoloship.engine.flavours import Messages
from yoloship.engine.network import apply_options, check_features, save_timing_cache
from yoloship.errors import EngineError


class Cache:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def serialize(self) -> bytes:
        return self.data + b"+"


class Settings:
    """An IBuilderConfig that keeps what it is told."""

    profiling_verbosity: object = None
    builder_optimization_level = 3
    hardware_compatibility_level: object = "NONE"
    num_compute_capabilities = 0

    def __init__(self) -> None:
        self.limits: dict[str, int] = {}
        self.flags: set[str] = set()
        self.cache: Cache | None = None

    def set_memory_pool_limit(self, pool: str, size: int) -> None:
        self.limits[pool] = size

    def get_memory_pool_limit(self, pool: str) -> int:
        return self.limits[pool]

    def set_flag(self, flag: str) -> None:
        self.flags.add(flag)

    def get_flag(self, flag: str) -> bool:
        return flag in self.flags

    def create_timing_cache(self, data: bytes) -> Cache:
        return Cache(data)

    def set_timing_cache(self, cache: Cache, ignore_mismatch: bool) -> bool:
        self.cache = cache
        return not ignore_mismatch

    def get_timing_cache(self) -> Cache | None:
        return self.cache


def flavour_of(settings: type[Settings] = Settings) -> Flavour:
    module = SimpleNamespace(
        IBuilderConfig=settings,
        ITimingCache=Cache,
        MemoryPoolType=SimpleNamespace(WORKSPACE="WORKSPACE"),
        BuilderFlag=SimpleNamespace(VERSION_COMPATIBLE="VERSION_COMPATIBLE"),
        HardwareCompatibilityLevel=SimpleNamespace(AMPERE_PLUS="AMPERE_PLUS", NONE="NONE"),
        ProfilingVerbosity=SimpleNamespace(DETAILED="DETAILED"),
    )
    return Flavour("tensorrt", "10.9", module)


def refusal(settings: Any, config: BuildConfig, messages: Messages | None = None) -> str:
    with pytest.raises(EngineError) as caught:
        apply_options(flavour_of(), settings, config, messages or Messages())
    return str(caught.value)


def test_every_option_is_set(tmp_path: Path) -> None:
    settings, cache = Settings(), tmp_path / "timings.bin"
    cache.write_bytes(b"old")
    config = BuildConfig(
        workspace_bytes=1 << 30,
        hardware_compatibility="ampere_plus",
        version_compatible=True,
        optimization_level=5,
        timing_cache=cache,
    )
    check_features(flavour_of(), config, has_device=True)
    apply_options(flavour_of(), settings, config, Messages())
    assert settings.limits == {"WORKSPACE": 1 << 30}
    assert settings.flags == {"VERSION_COMPATIBLE"}
    assert settings.hardware_compatibility_level == "AMPERE_PLUS"
    assert (settings.builder_optimization_level, settings.profiling_verbosity) == (5, "DETAILED")
    save_timing_cache(settings, config)
    assert cache.read_bytes() == b"old+"


def test_a_setter_without_effect_is_noticed() -> None:
    class Deaf(Settings):
        def __setattr__(self, name: str, value: object) -> None:
            if name != "builder_optimization_level":
                super().__setattr__(name, value)

    assert refusal(Deaf(), BuildConfig(optimization_level=5)) == (
        "optimization_level: the installed TensorRT ignores this option: expected 5, got 3; leave it out"
    )


def test_a_setter_that_warns_in_the_log_is_noticed() -> None:
    messages = Messages()

    class Talker(Settings):
        def set_flag(self, flag: str) -> None:
            super().set_flag(flag)
            messages.heard.append(("WARNING", "setFlag() is unsupported"))

    assert refusal(Talker(), BuildConfig(version_compatible=True), messages) == (
        "version_compatible: the installed TensorRT does not accept this option: "
        "got setFlag() is unsupported; leave it out"
    )


def test_a_setter_that_is_deprecated_is_noticed(tmp_path: Path) -> None:
    class Old(Settings):
        def create_timing_cache(self, data: bytes) -> Cache:
            warnings.warn("timing caches are no-ops", DeprecationWarning, stacklevel=2)
            return Cache(data)

    assert "got timing caches are no-ops" in refusal(Old(), BuildConfig(timing_cache=tmp_path / "t.bin"))


def test_a_level_that_the_flavour_does_not_know_lists_the_known_ones() -> None:
    assert refusal(Settings(), BuildConfig(hardware_compatibility="same_compute_capability")) == (
        "tensorrt 10.9: does not know it: expected AMPERE_PLUS, NONE, got SAME_COMPUTE_CAPABILITY"
    )


def test_targets_are_refused_where_the_flavour_builds_for_the_gpu_at_hand() -> None:
    with pytest.raises(EngineError, match=r"option targets has no effect here: it has no IBuilderConfig\.set_compute"):
        check_features(flavour_of(), BuildConfig(targets=("sm89",)), has_device=True)
    check_features(flavour_of(), BuildConfig(targets=("current",)), has_device=True)


def test_the_full_flavour_needs_a_gpu_to_build() -> None:
    with pytest.raises(EngineError) as caught:
        check_features(flavour_of(), BuildConfig(), has_device=False)
    assert str(caught.value) == (
        "tensorrt 10.9: needs an NVIDIA GPU to build: got none; build on the machine that has the GPU, or with "
        "the flavour rtx (--flavour), which builds without one"
    )
