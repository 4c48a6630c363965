"""Converting a graph to another precision, and measuring the loss."""
