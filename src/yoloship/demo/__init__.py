"""Scenes of machine-readable codes, and the model that finds them."""
