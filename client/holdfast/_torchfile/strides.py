"""Strides of tensors: whether the elements are contiguous in some order, and so have one place in a file. Pure."""

from collections.abc import Sequence


def is_non_overlapping_and_dense(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """Tell if the elements are adjacent, each once, in any order.

    A transposed tensor is one stretch; every third element of a tensor, or an expanded one, is not.

    Parameters
    ----------
    shape, strides : sequence of int
        Both in elements.
    """
    expected = 1
    if 0 in shape:
        return True
    for stride, length in sorted(zip(strides, shape, strict=True)):
        if length > 1:
            if stride != expected:
                return False
            expected *= length
    return True
