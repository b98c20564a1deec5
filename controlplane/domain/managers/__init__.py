"""Stream managers that share a database: who leads, what was begun outside, what was changed."""
