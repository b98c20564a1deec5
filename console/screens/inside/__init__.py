"""Inside one node: workers, sessions, streams."""
