"""Laws of the one decision about what counts as zero: floors, noise, rows, given inverses."""

import numpy as np
import pytest
from common import EPS, SINGLE, assert_within, covariances, frozen

from mvgauss import _whitening, pinv

NO_FLOOR = np.zeros(1)


def rotated(rng, values):
    """Return a stack of one matrix with these eigenvalues, and its eigenvectors in columns."""
    q = np.linalg.qr(rng.standard_normal((len(values), len(values))))[0]
    s = (q * values) @ q.T
    return frozen((s + s.T)[None] / 2), q


def assert_whitens(w, q, values):
    """Assert that one whitening matrix is the root of the pseudo-inverse with these eigenvalues."""
    keep = np.isfinite(values)
    want = (q * np.where(keep, 1 / np.where(keep, values, 1), 0)) @ q.T
    assert w.rank[0] == keep.sum()
    assert_within(w.root[0].T @ w.root[0], want, 1e-10 * np.abs(want).max())
    assert w.log_pdet[0] == pytest.approx(np.log(values[keep]).sum(), rel=1e-10, abs=1e-10)


@pytest.mark.parametrize("c", [2, 13, 40])
@pytest.mark.parametrize("scale", [1e-200, 1e-100, 1.0, 1e100, 1e200])
@pytest.mark.parametrize("floor", [1e-3, 1e-12, 1e-20])
def test_no_eigenvalue_counts_as_less_than_a_floor(rng, c, scale, floor):
    values = np.geomspace(1, 2, c)
    values[0] = floor - c * EPS  # as rounding may have made it
    s, q = rotated(rng, values)
    w = _whitening.whiten(s * scale, np.array([floor * scale]))
    assert w.rank[0] == c
    white = w.root[0] * np.sqrt(scale)  # of the matrix in its own unit
    length = np.linalg.norm(white @ q[:, 0]) ** 2
    assert 0.9 / max(floor, 2 * c * EPS) < length < 1.1 / floor
    rest = white @ q[:, 1:]
    assert_within(rest.T @ rest, np.diag(1 / values[1:]), 64 * c * EPS * length)
    assert w.log_pdet[0] == pytest.approx(
        np.log(values[1:]).sum() - np.log(length) + c * np.log(scale), abs=1e-2
    )


@pytest.mark.parametrize("rows", [False, True], ids=["products", "rows"])
@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e200])
def test_what_is_no_larger_than_the_noise_in_its_direction_is_dropped(rng, rows, scale):
    """A quiet feature beside loud ones has a noise of its own."""
    noise = np.array([[1e-4, 1e-4, 1e-12]])
    values = np.array([1.0, 0.9e-4, 1e-10])
    s = np.diag(values)[None] * scale
    keep = np.array([1.0, np.inf, 1e-10]) * scale
    w = (
        _whitening.whiten_rows(np.diag(np.sqrt(values * scale))[None], NO_FLOOR, noise * scale)
        if rows
        else _whitening.whiten(s, NO_FLOOR, noise * scale)
    )
    assert_whitens(w, np.eye(3), keep)
    quiet = _whitening.whiten(s, NO_FLOOR, noise * scale / 2)
    assert quiet.rank[0] == 3


def test_noise_counts_by_direction(rng):
    """The noise of a direction is that of the features it is made of."""
    q = np.array([[1.0, 1], [-1, 1]]) / np.sqrt(2)
    noise = np.array([[3e-6, 1e-6]])  # 2e-6 along both diagonals
    for low, rank in ((1.9e-6, 1), (2.1e-6, 2)):
        values = np.array([low, 1.0])
        s = (q.T * values) @ q
        assert _whitening.whiten(s[None], NO_FLOOR, noise).rank[0] == rank
        rows = (np.sqrt(values)[:, None] * q)[None]
        assert _whitening.whiten_rows(rows, NO_FLOOR, noise).rank[0] == rank


@pytest.mark.parametrize("n", [3, 8, 20])
@pytest.mark.parametrize("floor", [0.0, 1e-2, 1e-14])
@pytest.mark.parametrize("exponent", [-450, 0, 450])
def test_rows_whiten_as_their_product_with_half_of_the_loss(rng, n, floor, exponent):
    c = 8
    u, v = np.linalg.qr(rng.standard_normal((n, n)))[0], np.linalg.qr(rng.standard_normal((c, c)))[0]
    m = min(n, c)
    sd = np.geomspace(1, 1e-6, m)
    k = (u[:, :m] * sd) @ v[:, :m].T
    w = _whitening.whiten_rows(np.ldexp(k, exponent)[None], np.ldexp(np.array([floor]), 2 * exponent), None)
    values = np.full(c, floor if floor else np.inf)
    values[:m] = sd**2 + floor
    back = unscaled(w, exponent)
    keep = np.isfinite(values)
    inverse = (v * np.where(keep, 1 / np.where(keep, values, 1), 0)) @ v.T
    assert back.rank[0] == keep.sum()
    assert_within(back.root[0].T @ back.root[0], inverse, 1e-8 * np.abs(inverse).max())
    assert back.log_pdet[0] == pytest.approx(np.log(values[keep]).sum(), rel=1e-8)


def unscaled(w, exponent):
    """Return what was made of numbers times 2^exponent in their own unit."""
    log_pdet = w.log_pdet - 2 * exponent * np.log(2) * w.rank
    return _whitening.Whitening(np.ldexp(w.root, exponent), w.rank, log_pdet)


def test_matrices_of_one_stack_with_and_without_a_floor_are_told_apart(rng):
    k = rng.standard_normal((2, 3, 5))
    k[:, 2] = k[:, 0]
    w = _whitening.whiten_rows(k, np.array([0.0, 0.5]), None)
    assert w.rank.tolist() == [2, 5]
    s = k.swapaxes(1, 2) @ k
    both = _whitening.whiten(s + np.array([0.0, 0.5])[:, None, None] * np.eye(5), np.array([0.0, 0.5]))
    assert both.rank.tolist() == [2, 5]
    for i in range(2):
        assert_within(
            both.root[i].T @ both.root[i], w.root[i].T @ w.root[i], 1e-12 * np.abs(w.root[i]).max() ** 2
        )
    np.testing.assert_allclose(both.log_pdet, w.log_pdet, rtol=1e-12)


def test_rows_of_nothing_have_no_rank():
    w = _whitening.whiten_rows(np.zeros((2, 3, 4)), np.zeros(2), None)
    assert w.rank.tolist() == [0, 0]
    assert (w.root == 0).all()
    assert (w.log_pdet == 0).all()


@pytest.mark.parametrize("eps", [EPS, SINGLE])
@pytest.mark.parametrize("c", [2, 13, 40])
def test_a_given_inverse_is_taken_at_its_word(rng, eps, c):
    """Down to its rounding an eigenvalue is what it is: a direction of large variance."""
    values = np.geomspace(1, 1e3 * c * eps, c)
    p, _ = rotated(rng, values)
    w = _whitening.of_inverse(p, eps)
    assert w.rank[0] == c
    assert_within(w.root[0].T @ w.root[0], p[0], 64 * c * EPS)
    assert w.log_pdet[0] == pytest.approx(-np.log(values).sum(), rel=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rank", [0, 1, 3, 7])
def test_a_rounded_pseudo_inverse_keeps_its_rank_along_its_own_axes(rng, dtype, rank):
    """Not diagonal: an axis in the wrong place is seen."""
    s = covariances(rng, (4,), 8, rank, 30.0)
    p = pinv(s, 1e-9).astype(dtype).astype(float)
    w = _whitening.of_inverse(p, float(np.finfo(dtype).eps))
    assert w.rank.tolist() == [rank] * 4
    error = 16 * 8 * float(np.finfo(dtype).eps) * np.abs(p).max(axis=(1, 2))[:, None, None]
    assert_within(w.root.swapaxes(1, 2) @ w.root, p, error)
    values = np.linalg.eigvalsh(s)[:, 8 - rank :]
    np.testing.assert_allclose(w.log_pdet, np.log(values).sum(axis=1), rtol=1e-4, atol=1e-6)
    covariance = _whitening.inverse_of(w.root, w.rank)
    assert_within(covariance, s, 1e3 * float(np.finfo(dtype).eps))


@pytest.mark.parametrize("alone", [True, False])
def test_an_eigenvalue_that_rounding_may_have_made_counts_as_zero_and_a_larger_one_does_not(rng, alone):
    """How far rounding moves it is simulated: single precision, errors of half a digit in every entry."""
    c, m = 40, 1 if alone else 4
    q, _, _ = np.linalg.svd(
        rng.standard_normal((c, c - m)) * np.geomspace(0.1 if alone else 1, 1, c)[:, None]
    )
    p, q = q[:, :-m] @ q[:, :-m].T, q[:, -m:]
    noise = np.triu(rng.uniform(-0.5, 0.5, (400, c, c))) * SINGLE * np.abs(p)
    noise += np.triu(noise, 1).swapaxes(1, 2)
    moved = np.sqrt(m) * np.std(np.einsum("i,nij,j->n", q[:, 0], noise, q[:, 0]))
    for size, rank in ((2 * moved, c - m), (7 * moved, c)):
        given = p + size * q @ q.T
        w = _whitening.of_inverse(((given + given.T) / 2)[None], SINGLE)
        assert w.rank.tolist() == [rank]


def test_small_eigenvalues_that_continue_the_others_without_a_gap_are_kept(rng):
    p, _ = rotated(rng, np.geomspace(1, 1e-3 * SINGLE, 13))
    assert _whitening.of_inverse(p, SINGLE).rank.tolist() == [13]
