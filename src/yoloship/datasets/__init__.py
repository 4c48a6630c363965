"""Datasets on disk: which images they have, what is in each, and what is wrong with them."""
