"""WHERE layers run: cutting a model into stages."""

from pipelab.partition.balance import balance
from pipelab.partition.chain import Chain, as_model, call
from pipelab.partition.layout import layout_of
from pipelab.partition.measure import Layer, measure
from pipelab.partition.parts import whole_model
from pipelab.partition.rows import Rows, Whole
from pipelab.partition.split import cut, split

__all__ = [
    "Chain",
    "Layer",
    "Rows",
    "Whole",
    "as_model",
    "balance",
    "call",
    "cut",
    "layout_of",
    "measure",
    "split",
    "whole_model",
]
