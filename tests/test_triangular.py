"""Laws of triangles: packing, Cholesky factors and their inverses, at every size."""

import numpy as np
import pytest
from common import EPS, covariances, frozen
from hypothesis import given
from hypothesis import strategies as st

from mvgauss import _triangular

#: On both sides of where columns end and halves begin, of one half and of two.
SIZES = [1, 2, 3, _triangular._SMALL, _triangular._SMALL + 1, 2 * _triangular._SMALL + 1, 60, 121]


def some(b, c, seed=0):
    """Return a read-only stack with condition numbers of a hundred."""
    return covariances(np.random.default_rng(seed), (b,), c, c, 100.0)


@given(st.integers(1, 12), st.integers(0, 3))
def test_a_packed_triangle_is_unpacked_to_the_same_triangle(c, b):
    s = some(b, c)
    packed = np.full((b, c * (c + 1) // 2), np.nan)
    _triangular.pack(s, packed)
    np.testing.assert_array_equal(packed, s[:, *np.tril_indices(c)])
    np.testing.assert_array_equal(_triangular.unpack(frozen(packed), c), np.tril(s))


@pytest.mark.parametrize("c", SIZES)
def test_the_factor_is_lower_and_gives_its_covariance(c):
    s = some(3, c)
    root = _triangular.cholesky(s)
    np.testing.assert_allclose(root @ root.swapaxes(1, 2), s, rtol=0, atol=4 * EPS * c * np.abs(s).max())
    assert (np.triu(root, 1) == 0).all()


@pytest.mark.parametrize("c", SIZES)
@pytest.mark.parametrize("b", [1, 2, 5, 8])
def test_a_matrix_that_is_not_definite_changes_no_other(c, b):
    s = some(b, c)
    want = _triangular.cholesky(s)
    for bad in {0, b // 2, b - 1}:
        broken = s.copy()
        broken[bad, c // 2, c // 2] = -1
        got = _triangular.cholesky(broken)
        assert np.isnan(got[bad]).all()
        np.testing.assert_array_equal(np.delete(got, bad, 0), np.delete(want, bad, 0))
    assert np.isnan(_triangular.cholesky(-s)).all()


@pytest.mark.parametrize("c", SIZES)
def test_the_inverse_of_a_triangle_is_lower_and_its_inverse(c):
    lower = frozen(_triangular.cholesky(some(3, c)))
    w = _triangular.invert_lower(lower)
    assert (np.triu(w, 1) == 0).all()
    # each column is a solution by substitution: its residual is small against |L| |W|
    size = np.abs(w) @ np.abs(lower)
    assert (np.abs(w @ lower - np.eye(c)) <= 4 * c * EPS * size).all()
    size = np.abs(lower) @ np.abs(w) @ np.abs(lower)
    assert (np.abs(lower @ w @ lower - lower) <= 8 * c * EPS * size).all()


@given(st.integers(1, 40), st.integers(0, 4), st.integers(0, 99))
def test_each_triangle_has_the_inverse_that_it_has_alone(c, b, seed):
    """To the last bit where it is substituted, else to the rounding of products of stacks."""
    lower = _triangular.cholesky(some(b, c, seed))
    whole = _triangular.invert_lower(lower)
    for i in range(b):
        alone = _triangular.invert_lower(lower[i : i + 1])
        np.testing.assert_allclose(whole[i : i + 1], alone, rtol=0, atol=c * EPS * np.abs(alone).max())


def test_a_triangle_of_nan_leaves_the_others_alone():
    for c in SIZES:
        lower = np.array(_triangular.cholesky(some(3, c)))
        want = _triangular.invert_lower(lower)
        lower[1] = np.nan
        with np.errstate(all="ignore"):
            got = _triangular.invert_lower(lower)
        np.testing.assert_array_equal(got[[0, 2]], want[[0, 2]])
        assert np.isnan(got[1]).any()


def test_empty_stacks_and_matrices_are_left_alone():
    for shape in ((0, 50, 50), (0, 3, 3), (2, 0, 0)):
        assert _triangular.cholesky(np.empty(shape)).shape == shape
        assert _triangular.invert_lower(np.empty(shape)).shape == shape


@pytest.mark.parametrize("n", [3, 7, 8, 40])
@pytest.mark.parametrize("c", [1, 8, 30])
def test_the_root_of_rows_has_their_product(rng, n, c):
    k = frozen(rng.standard_normal((3, n, c)) * [[[1e-3]], [[1]], [[1e3]]])
    lower = _triangular.root_of_rows(k)
    assert lower.shape == (3, c, c)
    assert (np.triu(lower, 1) == 0).all()
    length = np.linalg.norm(k, axis=1)
    bound = 8 * (n + c) * EPS * length[:, :, None] * length[:, None]
    assert (np.abs(lower @ lower.swapaxes(1, 2) - k.swapaxes(1, 2) @ k) <= bound).all()


def test_the_root_of_a_product_is_given_up_where_a_feature_is_explained_by_others(rng):
    k = rng.standard_normal((6, 30, 4))
    k[1, :, 2] = k[1, :, 0] + 1e-2 * k[1, :, 2]  # nearly explained
    k[2, :, 3] = k[2, :, 0] + k[2, :, 1]  # explained
    k[3, :, 1] = 0  # without variance
    k[4] *= 1e-100
    product = frozen(k.swapaxes(1, 2) @ k)
    lower, rest = _triangular.root(product)
    assert rest.tolist() == [1, 2]
    good = [0, 3, 4, 5]
    size = np.sqrt(np.diagonal(product, axis1=1, axis2=2))
    bound = 16 * EPS * size[:, :, None] * size[:, None]
    assert (np.abs(lower @ lower.swapaxes(1, 2) - product) <= bound)[good].all()
    assert (lower[3, 1] == 0).all()
    assert (lower[3, :, 1] == 0).all()


@pytest.mark.parametrize(("factor", "sure"), [(1.01, True), (0.99, False)])
def test_what_has_to_be_left_unexplained_is_the_stated_part(factor, sure):
    part = factor * _triangular.EXPLAINED
    s = np.array([[[1.0, np.sqrt(1 - part)], [np.sqrt(1 - part), 1.0]]])
    assert (_triangular.root(s)[1].size == 0) == sure
