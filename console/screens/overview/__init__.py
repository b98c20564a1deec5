"""Is it all right? One glance."""
