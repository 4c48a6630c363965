"""What runs a model: one `Session` protocol, several runtimes."""
