"""The process itself: who acts, the log, thread priorities and the lag of the event loop.

Decides what a log line says and how much a background thread may disturb.
May import `core`.
"""
