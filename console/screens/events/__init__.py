"""Events: what is shown when, for how many, and whether it can begin."""
