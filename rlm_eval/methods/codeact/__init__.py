"""CodeAct (Wang et al., arXiv 2402.01030), the agent that the RLM paper compares with.

The input stands in the prompt, as the paper's section 3 says; the REPL holds no copy of it, or
this would be an RLM that is also shown its context.

agent.py      the method; run.py one sample's run on methods/agent/loop.py
settings.py   its knobs
opening.py    the first prompt, with as much of the input as has room
search.py     the BM25 tool
"""
