"""The page at the server's root, which tries the models in a browser: plain files, and `assets`, which serves them."""
