"""Streams, buffers, modules and kernels on an NVIDIA GPU.

Everything here needs `cuda.bindings`, an optional package (``pip install 'yoloship[cuda]'``). It is imported by the
first call, not by importing this package. `cuda.core` is not used, because our thin calls make fewer driver calls for
each frame and work with the bindings of CUDA 12 and 13 alike. Every failure is a `CudaError` with its code and name.

    driver.probe ──▶ Device ──▶ Stream, Event, Graph, DeviceBuffer, PinnedBuffer, KernelSet ──▶ letterbox, postprocess

The resources of a device are counted (`Device.usage`). The first `close` of a resource closes it. An open resource
keeps the device's context alive. Nothing here may be used in a process that was forked after the device was opened.
"""
