"""Torch files, read and written without a copy of any tensor.

`reader` and `writer` never import each other; this folder holds what both need.
Decides which tensors have one place in a file.
May import nothing of the client; torch is imported inside functions only, so that `import holdfast` is cheap.
"""
