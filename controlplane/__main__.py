"""`python -m controlplane`: one stream manager."""

import sys

from controlplane.main import main

if __name__ == "__main__":
    sys.exit(main())
