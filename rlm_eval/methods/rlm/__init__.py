"""The Recursive Language Model engine (Zhang et al., arXiv 2512.24601, Algorithm 1).

engine.py     the loop of one RLM, and the method that starts it
history.py    what the root model has been told, bounded to its window
code.py       code blocks found in a reply
finish.py     how a run ends: the four protocols
host.py       what REPL code may call: llm_query, rlm_query, budget
coverage.py   how much of the context any model has read
"""
