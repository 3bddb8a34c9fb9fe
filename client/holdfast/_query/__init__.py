"""The query side: the user's names for directories and checkpoints, lists of them, and changes to single ones.

Decides how a name finds a checkpoint, which filters a list takes, and what the server's answers look like to a script.
May import `errors`, `_runtime`, `_arguments`, `_api`, `_transfer` and `_options`; never torch, and never reads a state.
"""
