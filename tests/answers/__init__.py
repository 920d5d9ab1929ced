"""The product's answers beside those of the libraries people know.

Each file takes one head or one kind of folder: a small checkpoint is answered by its own library (a pipeline
of transformers, `encode` of sentence-transformers, the scorers of seqeval and SQuAD), by its float folder and
by its bundle, with and without the `tokenizers` library.
"""
