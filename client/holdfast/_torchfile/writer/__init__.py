"""Writing of torch files: the bytes are produced chunk by chunk, and the whole file never exists.

Decides the layout of the zip file; the pickle is the one that torch writes.
May import `errors`, `_runtime`, `_api` and `_torchfile.strides`; never talks to a server.
"""
