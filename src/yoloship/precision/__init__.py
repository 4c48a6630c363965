"""Bringing a graph to a precision, and proving what it costs."""
