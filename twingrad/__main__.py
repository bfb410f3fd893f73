"""``python -m twingrad`` is the same command line as ``twingrad``."""

import sys

from twingrad.cli.start import main

if __name__ == "__main__":
    sys.exit(main())
