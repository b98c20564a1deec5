"""Bringing the stage up, step by step, before there is anything to look at."""
