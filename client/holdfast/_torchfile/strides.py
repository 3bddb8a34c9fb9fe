"""Strides: whether the elements of a tensor are one stretch of its storage, and so have one place in a file. Pure."""

from collections.abc import Sequence


def is_one_stretch(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """Tell if elements lie next to each other, each once, in whatever order.

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
