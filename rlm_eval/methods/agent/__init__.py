"""What agents that write code in turns are made of: methods/rlm.py and methods/codeact.py."""
