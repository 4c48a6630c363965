"""Small tools that know nothing of models: reading, writing, text."""
