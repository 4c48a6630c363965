"""The tasks of a model, one file each."""
