"""Writing: a state as the bytes of a torch file that is never made, chunk by chunk.

Decides the layout of the zip file; the pickle is the one that torch writes.
May import `_runtime` and `_api.digests`; never talks to a server.
"""
