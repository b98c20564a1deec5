"""Messages that cross a process boundary, as pydantic models.

The one package of the control plane that the nodes and the console may import. Nothing in here acts: it
says what a message looks like and what its units are. Unknown fields are ignored on reading, so that an
older program can read a newer message; a field that is not known is None, never zero.
"""
