"""From images to results: letterbox, run, decode, suppress."""
