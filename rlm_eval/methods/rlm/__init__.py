"""The Recursive Language Model engine (Zhang et al., arXiv 2512.24601, Algorithm 1).

engine.py     the loop of one RLM, and the method that starts it; settings.py its knobs
view.py       what the root model is shown; structure.py the form of the context
finish.py     how a run ends: the four protocols; paper_final.py reads FINAL(...)
host.py       what REPL code may call: llm_query, rlm_query, budget

Its parts that any agent has, which writes code in turns, are in methods/agent/.
"""
