"""Predict: from a schedule and a cost to a trace, without running anything."""

from pipelab.simulator.cost import Cost
from pipelab.simulator.frontier import Frontier, frontier, par
from pipelab.simulator.search import Best, best_schedule
from pipelab.simulator.simulate import simulate

__all__ = ["Best", "Cost", "Frontier", "best_schedule", "frontier", "par", "simulate"]
