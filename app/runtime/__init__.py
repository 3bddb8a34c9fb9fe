"""The process itself: the actor of a request, the log, thread priorities and the lag of the event loop.

Decides what a log line contains and which threads run first.
May import `core`; never handles a request or a checkpoint.
"""
