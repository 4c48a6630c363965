"""Building, keeping and inspecting TensorRT engines."""
