"""WHERE layers live: cutting a model into stages."""

from pipelab.partition.balance import balance
from pipelab.partition.chain import Chain, as_model, call
from pipelab.partition.split import split

__all__ = ["Chain", "as_model", "balance", "call", "split"]
