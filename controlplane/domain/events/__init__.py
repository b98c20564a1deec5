"""Events: when what is shown, on which channel, and for how many."""
