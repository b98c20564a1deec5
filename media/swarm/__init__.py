"""Viewers made for measuring and for load. For now one: `python -m media.swarm probe`, a real viewer."""
