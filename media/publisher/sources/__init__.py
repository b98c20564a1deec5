"""Where pictures and sound come from: a port (`port.py`) and one adapter a file."""
