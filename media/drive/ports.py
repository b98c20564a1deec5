"""The numbers of the workers' own ports. Nothing is imported here: whoever launches a worker reads it too."""

DEFAULT_PORTS = range(20000, 30000)  # below the ephemeral ports (ip_local_port_range)
