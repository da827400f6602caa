"""`python -m attnbench`: the command `attnbench`, also from a clone that is not installed."""

import sys

from attnbench.cli.command import main

if __name__ == "__main__":
    sys.exit(main())
