"""Fixed inputs of the checks, smallest first, so that the first to break a law is the smallest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Dtype = np.dtype[Any]
Source = Callable[[Dtype], Iterable[Array]]

#: Three samples of two features, for laws that one input settles.
THREE = np.array([[0.0, 0.0], [2.0, 4.0], [4.0, 2.0]])

#: Longley's data of 1967, of NIST's Statistical Reference Datasets: six economic series of 1947 to 1962, and
#: employment. Its seventh column by the other six has the certified squared correlation that follows.
LONGLEY = np.array([
    [83.0, 234289, 2356, 1590, 107608, 1947, 60323],
    [88.5, 259426, 2325, 1456, 108632, 1948, 61122],
    [88.2, 258054, 3682, 1616, 109773, 1949, 60171],
    [89.5, 284599, 3351, 1650, 110929, 1950, 61187],
    [96.2, 328975, 2099, 3099, 112075, 1951, 63221],
    [98.1, 346999, 1932, 3594, 113270, 1952, 63639],
    [99.0, 365385, 1870, 3547, 115094, 1953, 64989],
    [100.0, 363112, 3578, 3350, 116219, 1954, 63761],
    [101.2, 397469, 2904, 3048, 117388, 1955, 66019],
    [104.6, 419180, 2822, 2857, 118734, 1956, 67857],
    [108.4, 442769, 2936, 2798, 120445, 1957, 68169],
    [110.8, 444546, 4681, 2637, 121950, 1958, 66513],
    [112.6, 482704, 3813, 2552, 123366, 1959, 68655],
    [114.2, 502601, 3931, 2514, 125368, 1960, 69564],
    [115.7, 518173, 4806, 2572, 127852, 1961, 69331],
    [116.9, 554894, 4007, 2827, 130081, 1962, 70551],
])  # fmt: skip
LONGLEY_SQUARED_CORRELATION = 0.995479004577296

SIZES = ((2, 1), (2, 2), (3, 2), (5, 3), (9, 4))


def table(n: int, c: int, salt: int = 0) -> Array:
    """Return whole numbers from -9 to 9 without a pattern that a covariance would see."""
    i, j = np.arange(n)[:, None], np.arange(c)
    mixed: Array = (i + 2) * (3 * i + 5 * j + 7 * salt + 1) + 11 * j * j + i * i * j + 13 * salt
    return (mixed % 19 - 9).astype(np.float64)


def samples(dtype: Dtype) -> Iterator[Array]:
    """Yield real samples: whole numbers, then numbers that fill the dtype."""
    for salt, divisor in ((0, 1), (1, 7)):
        for n, c in SIZES:
            yield (table(n, c, salt) / divisor).astype(dtype)


def complex_samples(dtype: Dtype) -> Iterator[Array]:
    """Yield complex samples in the precision of a real dtype."""
    for n, c in SIZES:
        yield (table(n, c) + 1j * table(n, c, 3)).astype(np.result_type(dtype, np.complex64))
    yield ((table(7, 3) + 1j * table(7, 3, 5)) / 7).astype(np.result_type(dtype, np.complex64))


def stacks(dtype: Dtype) -> Iterator[Array]:
    """Yield stacks of samples of different means, with one axis and with two."""
    for stack, n, c in (((2,), 3, 2), ((3,), 4, 3), ((2, 3), 4, 2)):
        items = [table(n, c, salt) / 3 + 20 * salt for salt in range(int(np.prod(stack)))]
        yield np.array(items).reshape(*stack, n, c).astype(dtype)


def columns(made: Source) -> Source:
    """Return the same samples in columns."""
    return lambda dtype: (np.ascontiguousarray(x.swapaxes(-1, -2)) for x in made(dtype))


def root(dtype: Dtype) -> float:
    """Return a number whose square has as many bits as the dtype."""
    return float(2.0 ** (np.finfo(dtype).nmant // 2))


def far(dtype: Dtype) -> Iterator[Array]:
    """Yield samples at an offset whose square has some more bits than the dtype."""
    for n, c in SIZES[1:]:
        yield (table(n, c) + 4 * root(dtype) + 0.25).astype(dtype)


def smls(dtype: Dtype) -> Iterator[Array]:
    """Yield the data sets SmLs07 to 09 of NIST, for single precision SmLs04 to 06, in columns by treatment.

    They have 13 and 7 constant leading digits. Of nine treatments the last six repeat the second and third.
    """
    digits = 6 if dtype == np.float32 else 12
    for n in (21, 201, 2001):
        tenths = np.array([4, 3, 5]) + np.where(np.arange(n) % 2, -1, 1)[:, None]
        tenths[0] = 4, 3, 5
        yield ((10.0 ** (digits + 1) + tenths) / 10).astype(dtype)


def these(*values: Any) -> Source:
    """Return what yields these arrays in a dtype."""
    return lambda dtype: [np.asarray(v, dtype) for v in values]


def fweights(x: Array) -> Array:
    """Return numbers of repetitions: 1, 2, 4, 1, ..."""
    return np.array([1, 2, 4])[np.arange(x.shape[-2]) % 3]


def aweights(x: Array) -> Array:
    """Return importances: 1/2, 3/2, 9/4, 1/2, ..."""
    return np.array([0.5, 1.5, 2.25])[np.arange(x.shape[-2]) % 3].astype(x.real.dtype)


def of_items(x: Array) -> Array:
    """Return whole weights that differ between the items of a stack."""
    return np.asarray(1 + np.arange(x[..., 0].size) % 5).reshape(x.shape[:-1])


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
    three, zeros = [[4, 2, 0], [2, 3, 1], [0, 1, 2]], [[0] * 3] * 3
    small = ([[4]], 1), ([[0]], 0), ([[2, 1], [1, 2]], 2), ([[1, 2], [2, 4]], 1), (three, 3), (zeros, 0)
    for s, rank in small:
        yield np.array(s, dtype), rank
    for n, c in ((3, 3), (3, 5), (6, 3), (9, 5)):
        x = table(n, c, 2)[1:]
        yield (x.T @ x).astype(dtype), min(n - 1, c)
    yield rotated((1.0, 0.25, 0.0625, 2.0 ** round(np.log2(np.finfo(dtype).eps) / 4)), dtype), 4
    yield rotated((1.0, 0.25, 0.0, 0.0), dtype), 2
