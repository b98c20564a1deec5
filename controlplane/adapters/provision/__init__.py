"""Ways to launch and end nodes: as processes here (local), or only in memory (memory)."""
