"""Retrieval-augmented generation: answer from the best-ranked pieces of the input only.

rag.py        the method: index, rank, rerank, fit, ask
ranking.py    rankings by words, by meaning and by both; the index kept of each context
rerank.py     a model puts the best candidates in order
"""
