"""The heads of networks: reading each kind of head, and writing its output forms."""
