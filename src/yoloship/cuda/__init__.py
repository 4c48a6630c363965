"""Streams, buffers, modules and kernels on an NVIDIA GPU.

Everything here stands on `cuda.bindings`, an optional package (``pip install 'yoloship[cuda]'``) that the first call
imports, not this package. Every failure is a `CudaError` with its code and name.

    probe ──▶ Device ──▶ Stream, Event, Graph, DeviceBuffer, PinnedBuffer, KernelSet ──▶ letterbox, postprocess

What a device owns is counted (`Device.usage`), closed once by whoever comes first, and keeps the device's context alive
until it is closed. Nothing here may be used in a process that was forked after the device was opened.
"""
