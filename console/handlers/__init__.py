"""What each action of the registry does: `do_<id>(argument)`, an argument only when one was entered. A file a
page or a subject.

A handler decides and asks; whatever waits for the stage runs in a worker, which ends in a message.
"""
