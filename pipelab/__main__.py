"""``python -m pipelab`` is the command ``pipelab``."""

import sys

from pipelab.cli.main import main

sys.exit(main())
