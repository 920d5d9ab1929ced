"""Text to token ids in plain Python, with the answers of the `tokenizers` library."""
