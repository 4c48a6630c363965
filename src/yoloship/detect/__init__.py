"""Turns images into results: letterbox, network, decoding, NMS."""
