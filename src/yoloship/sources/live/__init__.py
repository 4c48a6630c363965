"""Live sources: cameras and network streams, each decoded in a process of its own that may die or hang."""
