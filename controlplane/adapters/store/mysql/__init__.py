"""MySQL or MariaDB behind the store port: an address, connections, what their errors mean, migrations."""
