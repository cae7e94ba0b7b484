"""Ranks that this process starts: the fork server, the processes, their life and their end.

This file imports nothing: the fork server is started before torch is loaded.
"""
