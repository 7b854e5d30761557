"""Retrieval-augmented generation: answer from the best-ranked pieces of the input only."""
