"""``python -m bench`` is the same front door as ``twingrad``."""

import sys

from twingrad.cli.start import main

if __name__ == "__main__":
    sys.exit(main())
