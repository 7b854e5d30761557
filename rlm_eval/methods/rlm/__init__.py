"""The Recursive Language Model engine (Zhang et al., arXiv 2512.24601, Algorithm 1).

engine.py     the method, and one RLM's run on methods/agent/loop.py; settings.py its knobs
task.py       what the root model is told of its context; structure.py the context's form
finish.py     how a run ends: the four protocols; paper_final.py reads FINAL(...)
children.py   sub-calls that are RLMs: rlm_query
"""
