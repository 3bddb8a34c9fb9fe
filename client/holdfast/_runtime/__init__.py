"""The training process: signals, forks, threads, frames, optional packages, redaction.

Decides how the client behaves within a process that is not its own.
May import `errors` only.
"""
