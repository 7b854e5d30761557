"""Engines of other makers, compared like for like: their own prompts and loop, our model client."""
