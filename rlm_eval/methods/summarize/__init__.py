"""Summarise, then answer: three ways to read an input longer than the window.

notes.py        notes on each part: side by side (map-reduce), or one summary written anew (refine)
compaction.py   reads on until the window is full, sums up, reads on (the RLM paper's baseline)
summarizer.py   what they share: the input in parts, the prompts, the calls
"""
