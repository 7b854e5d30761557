"""What an agent is made of that writes code in turns: an RLM (methods/rlm) and CodeAct.

asker.py      one turn asked of its model; history.py its chat, bounded to the window
code.py       code blocks found in a reply
reserve.py    what is held back for the forced answer
trace.py      the trajectory and the row's counts
coverage.py   how much of the context any model has read
"""
