"""Readers of files that other tools wrote: torch and safetensors headers, file names, trainer records.

Decides which files are checkpoints and which tensors they contain. The input is hostile: every read is bounded.
May import `core`; never unpickles, never opens a file itself.
"""
