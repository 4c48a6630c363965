"""Passes over a finished graph: half precision, INT8 and FP8, suppression."""
