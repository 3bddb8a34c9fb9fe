"""Folders as checkpoints: found and read on this machine, downloaded, and put in their place as a whole.

Decides which files of a folder are sent, and when a folder on this machine is replaced.
May import `errors`, `_runtime`, `_arguments`, `_api`, `_torchfile.reader` and `_transfer`; never asks which checkpoint
is wanted.
"""
