"""Torch files, read and written without a copy of any tensor.

`reader` and `writer` know nothing of each other; this folder holds what both need. Imports nothing of the client;
torch is imported inside functions only, so that `import holdfast` is cheap.
"""
