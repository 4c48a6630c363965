"""ONNX Runtime, on the CPU and on an NVIDIA GPU."""
