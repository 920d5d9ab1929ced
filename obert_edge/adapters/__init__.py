"""Bundles in the places where other libraries expect a model; a file for each library, imported on demand."""
