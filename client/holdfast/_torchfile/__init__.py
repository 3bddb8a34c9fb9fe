"""Torch files, read and written without a copy of any tensor.

`reader` and `writer` know nothing of each other; what both need is here.
May import nothing of the client.
"""
