from __future__ import annotations

from helpers.cuda_contract import KernelContract


class TestKernelsOnTheDevice(KernelContract):
    pass
