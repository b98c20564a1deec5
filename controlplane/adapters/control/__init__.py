"""Ways to reach a node's control endpoint."""
