"""What both sides know: commands, trees of tensors, devices, progress, logs.

This file imports nothing: the fork server is started before torch is loaded.
"""
