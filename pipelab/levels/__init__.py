"""Levels: twelve puzzles of tokens with a goal, par, hints, and a coach. Needs no torch."""

from pipelab.levels.puzzles import LEVELS

__all__ = ["LEVELS"]
