"""Ranks that this process starts: the fork server, the processes, how they start and end.

This file imports nothing: the fork server is started before torch is loaded.
"""
