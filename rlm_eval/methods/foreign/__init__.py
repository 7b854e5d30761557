"""Engines of other makers, compared like for like: their own prompts and loop, our model client.

engine.py     the method: an engine in a process of its own, its calls through the sample's proxy
command.py    any executable, whatever it is written in
packages.py   engines that are Python packages: rlms (github.com/alexzhang13/rlm) and dspy.RLM
process.py    starts, confines, watches and ends the process
starter.py    the first program in that process; host.py runs one of the packages there
record.py     the trajectory of what an engine asked
"""
