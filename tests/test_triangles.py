"""Laws of the factors of covariances: at every size, by elimination as by LAPACK."""

import ctypes
from types import SimpleNamespace

import numpy as np
import pytest
from common import covariances, frozen
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_info

from mvgauss import _lapack, _triangles

#: On both sides of where elimination ends and where LAPACK takes more strips.
SIZES = [1, 2, 3, _triangles._SMALL, _triangles._SMALL + 1, 39, 40, 41, 59, 60, 79, 80, 121]


def some(b, c, dtype=np.float64, seed=0):
    """Return a read-only stack with condition numbers of a hundred."""
    return frozen(covariances(np.random.default_rng(seed), (b,), c, c, 100.0).astype(dtype))


def inverse_root(s):
    """Return what is written, into memory that holds something else."""
    w = np.full(s.shape, np.nan, s.dtype)
    with np.errstate(all="ignore"):
        _triangles.invert_root(s, w)
    return w


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("c", SIZES)
def test_the_inverse_root_whitens_its_covariance(c, dtype):
    s = some(3, c, dtype)
    w = inverse_root(s)
    white = w.astype(np.longdouble) @ s.astype(np.longdouble) @ w.astype(np.longdouble).swapaxes(1, 2)
    assert np.abs(white - np.eye(c)).max() < 400 * np.sqrt(c) * np.finfo(dtype).eps
    assert (np.triu(w, 1) == 0).all()
    assert (np.diagonal(w, axis1=1, axis2=2) > 0).all()


@pytest.mark.parametrize("c", SIZES)
def test_a_matrix_that_is_not_definite_changes_no_other(c):
    s = some(5, c)
    broken = s.copy()
    broken[1, c // 2, c // 2] = -1
    broken[4] = 0
    w = inverse_root(broken)
    np.testing.assert_array_equal(w[[0, 2, 3]], inverse_root(s)[[0, 2, 3]])
    assert not np.isfinite(np.log(np.diagonal(w[[1, 4]], axis1=1, axis2=2)).sum(axis=1)).any()


@given(st.integers(1, 45), st.integers(0, 4), st.sampled_from([np.float32, np.float64]), st.integers(0, 99))
def test_each_matrix_has_the_answer_that_it_has_alone(c, b, dtype, seed):
    s = some(b, c, dtype, seed)
    w = inverse_root(s)
    for i in range(b):
        np.testing.assert_array_equal(w[i : i + 1], inverse_root(s[i : i + 1]))


@pytest.mark.parametrize("c", SIZES)
def test_the_factor_is_lower_and_gives_its_covariance(c):
    s = some(3, c)
    root = _triangles.cholesky(s)
    np.testing.assert_allclose(root @ root.swapaxes(1, 2), s, rtol=0, atol=1e-15 * c * np.abs(s).max())
    assert (np.triu(root, 1) == 0).all()
    broken = s.copy()
    broken[1, c - 1, c - 1] = -1
    np.testing.assert_array_equal(_triangles.cholesky(broken)[[0, 2]], root[[0, 2]])
    assert np.isnan(_triangles.cholesky(broken)[1]).all()


@pytest.mark.parametrize("c", [1, 13, 14, 40, 55, 90])
def test_a_small_stack_leaves_no_threads_of_blas_in_each_others_way(c, monkeypatch):
    invert, counts = _lapack.invert_lower, []

    def watched(*arguments):
        counts.extend(p["num_threads"] for p in threadpool_info() if p["user_api"] == "blas")
        invert(*arguments)

    monkeypatch.setattr(_lapack, "invert_lower", watched)
    inverse_root(some(1, c))
    assert set(counts) == {1} if c >= _lapack.THREADED else len(counts) == 0 or c > _triangles._SMALL


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("c", [1, 4, 41, 85])
def test_what_is_above_the_diagonal_does_not_count_and_stays(c, dtype):
    s = some(2, c, dtype)
    above = np.triu(np.ones((c, c), bool), 1)
    given = np.where(above, dtype(7), s)
    root = given.copy()
    assert _lapack.cholesky(root).all()
    assert (root[:, above] == 7).all()
    root[:, above] = np.nan
    w = np.empty_like(root)
    _lapack.invert_lower(root, w)
    np.testing.assert_allclose(w @ np.tril(root), np.broadcast_to(np.eye(c), s.shape), atol=1e-4)


def test_empty_stacks_and_matrices_are_left_alone():
    assert inverse_root(np.empty((0, 50, 50))).shape == (0, 50, 50)
    assert _triangles.cholesky(np.empty((0, 50, 50))).shape == (0, 50, 50)
    assert _triangles.cholesky(np.empty((2, 0, 0))).shape == (2, 0, 0)


@pytest.mark.parametrize("change", [lambda a: a[:, ::2, ::2], lambda a: a.swapaxes(1, 2), frozen])
def test_memory_that_lapack_may_not_write_is_never_handed_to_it(change):
    with pytest.raises(ValueError, match="expected a stack in C order"):
        _lapack.cholesky(change(some(2, 8).copy()))


@pytest.mark.parametrize(
    ("name", "integer"),
    [
        (b"void (char *, int *, double *)", ctypes.c_int),
        (b"void (char *, blas_int *, double *)", ctypes.c_int64),
    ],
)
def test_integers_have_the_size_that_the_signature_tells(name, integer):
    make = ctypes.pythonapi.PyCapsule_New
    make.restype, make.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    module = SimpleNamespace(__pyx_capi__={"routine": make(1, name, None)})
    assert _lapack._published(module, "routine", True).integer is integer


@given(st.integers(1, 12), st.integers(0, 3))
def test_a_packed_triangle_is_unpacked_to_the_same_matrix(c, b):
    s = some(b, c)
    packed = np.full((b, c * (c + 1) // 2), np.nan)
    _triangles.pack(s, packed)
    np.testing.assert_array_equal(packed, s[:, *np.tril_indices(c)])
    np.testing.assert_array_equal(_triangles.unpack(packed, c), s)
