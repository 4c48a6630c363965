"""A detector whose every step between a frame in memory and its boxes runs on the GPU."""
