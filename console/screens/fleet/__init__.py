"""The nodes: how full, how well; add one, drain one."""
