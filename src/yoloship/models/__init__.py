"""From a file to a model that runs: loading, vetting, building, fetching."""
