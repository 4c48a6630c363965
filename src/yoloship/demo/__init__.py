"""The demo: generated scenes of machine-readable codes, and the model that finds them."""
