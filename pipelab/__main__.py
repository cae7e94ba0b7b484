"""``python -m pipelab`` is the command ``pipelab``."""

import sys

from pipelab.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
