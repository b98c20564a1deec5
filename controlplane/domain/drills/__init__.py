"""Drills: what killing something on purpose strikes, and what came of it."""
