"""Nodes: what the stream manager knows of a machine of its own, the states it goes through, and the rules."""
