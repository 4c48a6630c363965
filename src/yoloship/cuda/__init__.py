"""Streams, buffers, modules and kernels on an NVIDIA GPU."""
