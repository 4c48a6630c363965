"""Turns a file into a model that runs: loads, checks, builds and downloads models."""
