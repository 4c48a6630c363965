"""From a file to a model that runs: loading, building, recognising, fetching."""
