"""A fleet that is simulated, and the crowd that joins it: `python -m media.swarm signalling`."""
