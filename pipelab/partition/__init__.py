"""WHERE layers live: cutting a model into stages."""

from pipelab.partition.balance import balance
from pipelab.partition.split import split

__all__ = ["balance", "split"]
