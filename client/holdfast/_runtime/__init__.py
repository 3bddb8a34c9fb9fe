"""The training process: signals, forks, threads, frames, optional packages, file attributes, redaction.

Decides how the client behaves within a training process.
May import `errors`; never talks to a server.
"""
