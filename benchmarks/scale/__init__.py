"""Benchmarks of Holdfast at a million checkpoints and at small sizes, of one checkout or of two in turns.

`benchmarks.scale.job` runs in the interpreter of either checkout; it imports nothing of this package.
"""
