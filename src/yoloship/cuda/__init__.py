"""Streams, buffers, modules and kernels on an NVIDIA GPU.

Everything here stands on `cuda.bindings`, an optional package (``pip install 'yoloship[cuda]'``) that the first call
imports, not this package. `cuda.core` is not used: our thin calls make fewer driver calls for each frame, and they work
with the bindings of CUDA 12 and 13 alike. Every failure is a `CudaError` with its code and name.

    driver.probe ──▶ Device ──▶ Stream, Event, Graph, DeviceBuffer, PinnedBuffer, KernelSet ──▶ letterbox, postprocess

What a device owns is counted (`Device.usage`), closed once by whoever comes first, and keeps the device's context alive
until it is closed. Nothing here may be used in a process that was forked after the device was opened.
"""
