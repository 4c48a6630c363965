"""Models for a Triton server: a repository that it runs, and a check of a server that runs it."""
