"""WHERE layers run: cutting a model into stages."""

from pipelab.partition.balance import balance
from pipelab.partition.chain import Chain, as_model, call
from pipelab.partition.measure import Layer, measure
from pipelab.partition.rows import Rows, Whole
from pipelab.partition.split import split

__all__ = [
    "Chain",
    "Layer",
    "Rows",
    "Whole",
    "as_model",
    "balance",
    "call",
    "measure",
    "split",
]
