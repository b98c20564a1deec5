"""One file a row. A row is a module with a `TITLE` (one line) and a `run()` that returns its figures.

`run` may be async. It raises `bench.figures.NotRun` when this machine lacks what it needs, with the reason.
Files whose name begins with an underscore are helpers, not rows.
"""
