"""Whether torchrun started this process. Imported before torch is: it must stay light."""

import os


def under_torchrun() -> bool:
    """Whether torchrun made this process one of several ranks; not with PIPELAB_TORCHRUN=0."""
    named = "TORCHELASTIC_RUN_ID" in os.environ and "WORLD_SIZE" in os.environ
    return named and os.environ.get("PIPELAB_TORCHRUN") != "0"
