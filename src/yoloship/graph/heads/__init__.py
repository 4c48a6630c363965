"""The heads of networks: what each says about itself, and how its output forms are written."""
