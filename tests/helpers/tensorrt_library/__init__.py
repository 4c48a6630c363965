"""TensorRT's own Python bindings over a stand-in for TensorRT's libraries.

The bindings are NVIDIA's, from the wheels `tensorrt-cu12-bindings`. The libraries behind them cannot be had here, so
`library.c` stands for them: it has the public C++ interfaces, and Python computes for it (`host`). This proves that
every call binds in the real bindings, what they do about refusals, and in which order things live and die. It proves
nothing about TensorRT's own kernels, optimiser and plans.
"""
