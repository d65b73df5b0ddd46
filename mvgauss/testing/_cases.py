"""Fixed inputs of the checks, smallest first, so that the first to break a law is the smallest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Dtype = np.dtype[Any]

#: Three samples of two features, for laws that one input settles.
THREE = np.array([[0.0, 0.0], [2.0, 4.0], [4.0, 2.0]])

SIZES = ((2, 1), (2, 2), (3, 2), (5, 3), (9, 4))


def table(n: int, c: int, salt: int = 0) -> Array:
    """Return whole numbers from -9 to 9 without a pattern that a covariance would see."""
    i, j = np.arange(n)[:, None], np.arange(c)
    mixed: Array = (i + 2) * (3 * i + 5 * j + 7 * salt + 1) + 11 * j * j + i * i * j + 13 * salt
    return (mixed % 19 - 9).astype(np.float64)


def samples(dtype: Dtype) -> Iterator[Array]:
    """Yield real samples: whole numbers, then numbers that fill the dtype."""
    for n, c in SIZES:
        yield table(n, c).astype(dtype)
    for n, c in SIZES:
        yield (table(n, c, 1) / 7).astype(dtype)


def complex_samples(dtype: Dtype) -> Iterator[Array]:
    """Yield complex samples in the precision of a real dtype."""
    for n, c in SIZES:
        yield (table(n, c) + 1j * table(n, c, 3)).astype(complex_of(dtype))
    yield ((table(7, 3) + 1j * table(7, 3, 5)) / 7).astype(complex_of(dtype))


def stacks(dtype: Dtype) -> Iterator[Array]:
    """Yield stacks of samples of different means, with one axis and with two."""
    for stack, n, c in (((2,), 3, 2), ((3,), 4, 3), ((2, 3), 4, 2)):
        count = int(np.prod(stack))
        items = [table(n, c, salt) / 3 + 20 * salt for salt in range(count)]
        yield np.array(items).reshape(*stack, n, c).astype(dtype)


def fweights(n: int) -> Array:
    """Return numbers of repetitions: 1, 2, 4, 1, ..."""
    return np.array([1, 2, 4])[np.arange(n) % 3]


def aweights(n: int, dtype: Dtype) -> Array:
    """Return importances: 1/2, 3/2, 9/4, 1/2, ..."""
    return np.array([0.5, 1.5, 2.25])[np.arange(n) % 3].astype(dtype)


def weights(n: int, dtype: Dtype, kinds: str) -> dict[str, Any]:
    """Return the weights of the kinds in a string, "f" and "a"."""
    given: dict[str, Any] = {}
    if "f" in kinds:
        given["fweights"] = fweights(n)
    if "a" in kinds:
        given["aweights"] = aweights(n, dtype)
    return given


def complex_of(dtype: Dtype) -> Dtype:
    """Return the complex dtype of the same precision."""
    return np.result_type(dtype, np.complex64)


def frozen(value: Array) -> Array:
    """Return a read-only view, which is handed over as it is."""
    view = value.view()
    view.setflags(write=False)
    return view


def rotated(values: tuple[float, ...], dtype: Dtype) -> Array:
    """Return a full 4x4 matrix with these eigenvalues, exactly: its eigenvectors are halves of ones."""
    q = np.eye(4) - 0.5
    return (q @ np.diag(values) @ q).astype(dtype)


def covariances(dtype: Dtype) -> Iterator[tuple[Array, int]]:
    """Yield positive semi-definite matrices of small numbers, and their ranks."""
    yield np.array([[4.0]], dtype), 1
    yield np.array([[0.0]], dtype), 0
    yield np.array([[2.0, 1.0], [1.0, 2.0]], dtype), 2
    yield np.array([[1.0, 2.0], [2.0, 4.0]], dtype), 1
    yield np.array([[4.0, 2.0, 0.0], [2.0, 3.0, 1.0], [0.0, 1.0, 2.0]], dtype), 3
    yield np.zeros((3, 3), dtype), 0
    for n, c in ((3, 3), (3, 5), (6, 3), (9, 5)):
        x = table(n, c, 2)[1:]
        yield (x.T @ x).astype(dtype), min(n - 1, c)
    small = float(np.sqrt(np.finfo(dtype).eps))  # a power of two, or near it
    yield rotated((1.0, 0.25, 0.0625, 2.0 ** round(np.log2(small) / 2)), dtype), 4
    yield rotated((1.0, 0.25, 0.0, 0.0), dtype), 2
