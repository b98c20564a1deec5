"""Money: what ran and what was sent, what it costs, and what there is left to spend."""
