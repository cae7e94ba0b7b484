"""Ranks that torchrun has started: the key-value store, the cause of a failure, clocks."""
