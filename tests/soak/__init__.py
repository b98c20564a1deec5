"""`make soak`: a whole stage under a crowd that comes and goes, for as long as one has the patience.

Memory must stay flat, and no file descriptor be left behind. `python -m tests.soak --help`; what is held
against what says judge.py.
"""
