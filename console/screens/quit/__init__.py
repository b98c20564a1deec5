"""Leaving the console: what becomes of the stage."""
