"""What an agent that writes code in turns is made of: methods/rlm and methods/codeact are two.

loop.py       the turns, from the first chat to the answer; ending.py what a method says ends them
settings.py   the knobs that both have
asker.py      one turn asked of the model; history.py the chat, bounded to its window
code.py       code blocks found in a reply
view.py       what the model is shown of what its code did
subcalls.py   what its code may call: llm_query, budget
reserve.py    what is held back for the forced answer
trace.py      the trajectory and the row's counts
coverage.py   how much of the context any model has read
"""
