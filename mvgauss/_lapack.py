"""LAPACK on stacks of small matrices, where NumPy has no fast call.

NumPy factors single precision in double, and inverts triangles as if they were full. SciPy publishes
the addresses of the routines it was built with, for compiled code to call (`scipy.linalg.cython_blas`,
`scipy.linalg.cython_lapack`). Called there they release the interpreter's lock, which most of SciPy's own
wrappers do not, so that threads work at the same time. Short calls keep it: to hand it over and get it
back takes longer than they do, and beside a thread that is busy in Python very much longer.

LAPACK takes matrices column by column: what it calls upper is the lower triangle here.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import cython_blas, cython_lapack

from mvgauss._checks import Array

#: About how many columns of an inverse are solved for together: the further right, the fewer rows.
_STRIP = 40

#: The size of a matrix from which on BLAS may take threads for a call.
THREADED = 40

#: The size of a matrix from which on a call is long enough to let other threads go on.
_LONG = 60

_name_of = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.py_object)(("PyCapsule_GetName", ctypes.pythonapi))
_address_in = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)

_LETTERS = [ctypes.c_char(letter) for letter in b"URN"]
_UPPER, _RIGHT, _NO = (ctypes.addressof(letter) for letter in _LETTERS)


class _Routine(NamedTuple):
    """A routine of Fortran, which takes addresses only."""

    call: Callable[..., None]
    integer: Any  #: its type of integers


def _published(module: Any, name: str, long: bool) -> _Routine:
    """Return a routine that a module of SciPy publishes; `long` calls let other threads go on."""
    capsule = module.__pyx_capi__[name]
    signature = _name_of(capsule)  # as in C
    pointers = [ctypes.c_void_p] * (signature.count(b",") + 1)
    kind = (ctypes.CFUNCTYPE if long else ctypes.PYFUNCTYPE)(None, *pointers)
    integer = ctypes.c_int if b", int *" in signature else ctypes.c_int64
    return _Routine(kind(_address_in(capsule, signature)), integer)


@cache
def _potrf(dtype: np.dtype[Any], long: bool) -> _Routine:
    """Return what factors a matrix."""
    return _published(cython_lapack, {"f": "spotrf", "d": "dpotrf"}[dtype.char], long)


@cache
def _trsm(dtype: np.dtype[Any], long: bool) -> _Routine:
    """Return what solves for many right sides with a triangle."""
    return _published(cython_blas, {"f": "strsm", "d": "dtrsm"}[dtype.char], long)


def _addresses(stack: Array) -> range:
    """Return where the matrices of ``(B, C, C)`` are."""
    if not (stack.flags.carray and stack.flags.writeable):  # or memory of others would be written
        raise ValueError("expected a stack in C order that may be written")
    start, step = stack.ctypes.data, stack.shape[1] * stack.shape[2] * stack.itemsize
    return range(start, start + stack.nbytes, max(1, step))


def cholesky(s: Array) -> Array:
    """Put Cholesky factors into the lower triangles of symmetric matrices ``(B, C, C)``.

    What is above the diagonals stays. Return which of the matrices are positive definite; what is in
    the triangles of others is of no use.
    """
    call, integer = _potrf(s.dtype, s.shape[-1] >= _LONG)
    size, info = integer(s.shape[-1]), integer(0)
    n, result = ctypes.addressof(size), ctypes.addressof(info)
    definite = []
    for matrix in _addresses(s):
        call(_UPPER, n, matrix, n, result)
        definite.append(info.value == 0)
    return np.array(definite, bool)


def invert_lower(lower: Array, out: Array) -> None:
    """Write the inverses of lower triangles ``(B, C, C)``; what is above the diagonals does not count.

    The columns of the identity are solved for in strips, each with the rows from its diagonal on.
    """
    c = out.shape[-1]
    call, integer = _trsm(out.dtype, c >= _LONG)
    out[...] = np.eye(c, dtype=out.dtype)
    count = max(1, c // _STRIP)
    edges = [c * k // count for k in range(count + 1)]
    sizes = [(integer(j - i), integer(c - i)) for i, j in pairwise(edges)]
    strips = [
        (ctypes.addressof(columns), ctypes.addressof(rows), i * (c + 1) * out.itemsize)
        for i, (columns, rows) in zip(edges, sizes, strict=False)
    ]
    n = strips[0][1]
    one = np.ones(1, out.dtype)
    factor = one.ctypes.data
    for triangle, inverse in zip(_addresses(lower), _addresses(out), strict=True):
        for columns, rows, at in strips:
            call(_RIGHT, _UPPER, _NO, _NO, columns, rows, factor, triangle + at, n, inverse + at, n)
