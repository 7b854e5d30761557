"""What agents that write code in turns are made of: methods/rlm.py and methods/codeact.py.

loop.py         the settings both have, and the turns from the first chat to the answer
chat.py         code found in a reply; the chat, kept within its window
paper_final.py  FINAL(...) and FINAL_VAR(...) found in a reply
subcalls.py     what its code may call: llm_query, rlm_query, budget
trace.py        the trajectory and the row's counts
coverage.py     how much of the context any model has read
"""
