"""Many images at night: a source to Parquet or JSON Lines, on this machine or on many with Ray."""
