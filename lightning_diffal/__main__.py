"""`python -m lightning_diffal` is `diffal`."""

import sys

from lightning_diffal.cli import main

if __name__ == "__main__":  # workers of the demo import this module too
    sys.exit(main())
