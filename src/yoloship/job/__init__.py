"""Long work: a model over all frames of a source, every answer in the sinks, counted, and in the log of the run."""
