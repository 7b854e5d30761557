"""Summarise, then answer: three ways to read an input longer than the window."""
