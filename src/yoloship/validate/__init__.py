"""How good a model is on a dataset, by named rules."""
