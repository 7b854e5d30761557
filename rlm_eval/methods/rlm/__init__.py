"""The Recursive Language Model engine (Zhang et al., arXiv 2512.24601, Algorithm 1).

engine.py     the loop of one RLM, and the method that starts it; settings.py its knobs
history.py    what the root model has been told, bounded to its window
code.py       code blocks found in a reply
view.py       what the root model is shown; structure.py the form of the context
finish.py     how a run ends: the four protocols; paper_final.py reads FINAL(...)
reserve.py    what is held back for the forced answer
host.py       what REPL code may call: llm_query, rlm_query, budget
trace.py      the trajectory and the row's counts
coverage.py   how much of the context any model has read
"""
