"""Every key and command, made from the registry of actions."""
