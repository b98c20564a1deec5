"""The fleet's decisions: what a group looks like (snapshot.py), and what is to be done about it (planner.py).

Pure: no clock, no network, no database. The stream manager, the simulator and the what-if view ask the very
same `plan`.
"""
