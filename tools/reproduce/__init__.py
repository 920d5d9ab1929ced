"""Recipes of the published numbers, and the programs that run them."""
