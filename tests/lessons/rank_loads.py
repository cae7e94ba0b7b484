"""What a rank would load for what it gets: run in a process that is forked as ranks are."""

import pickle
import sys


def report(pipe, messages, names):
    """Read the messages as a rank does, and send which of the modules are loaded then."""
    for message in messages:
        pickle.loads(message)
    pipe.send([name for name in names if name in sys.modules])
