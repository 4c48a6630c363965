from __future__ import annotations

from _cuda_contract import KernelContract


class TestKernelsOnTheDevice(KernelContract):
    pass
