"""Experiments that chose the defaults: pruning methods, word embeddings, accuracy against cost."""
