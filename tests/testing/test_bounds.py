"""No right implementation exceeds a bound, on any data; wrong ones do, on the right data."""

import numpy as np
import peers
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st
from mutants import ONE_PASS, WELFORD, mutant

import mvgauss
from mvgauss.testing import (
    cov_bound,
    distance_bound,
    exact_cov,
    exact_mahalanobis,
    exact_mean,
    exact_pinv,
    mean_bound,
    pinv_bound,
    strategies,
)

SCALES = (1.0, 2.0**-20, 1e6)
OFFSETS = (0.0, 1.0, -1000.0, 1e8)
SINGLE = np.dtype(np.float32)


def ratio(got, want, bound):
    """Return the largest error in units of the bound; no error is no part of no bound."""
    with np.errstate(all="ignore"):
        off = np.abs(np.asarray(got) - np.asarray(want))
        return float(np.max(np.where(off == 0, 0, off / bound), initial=0))


@st.composite
def weighted_samples(draw, dtype=np.float64, stacks=None, offsets=OFFSETS):
    """Draw samples, and weights with enough freedom for them."""
    stacks = strategies.stack_shapes(1) if stacks is None else stacks
    x = draw(strategies.observations((3, 8), scales=SCALES, offsets=offsets, stacks=stacks, dtype=dtype))
    kinds = draw(st.sampled_from(["", "f", "a", "fa"]))
    return x, draw(strategies.weights(x.shape[-2], kinds, zeros=False)), draw(st.sampled_from([0, 1, -1]))


def others_are_slow(functions):
    """Return the names; those of others, which show that a bound is fair, are tried in the whole suite."""
    return [n if n.startswith("mvgauss") else pytest.param(n, marks=pytest.mark.slow) for n in functions]


COVARIANCES = {
    "mvgauss.cov": mvgauss.cov,
    "numpy.cov": peers.numpy_loop,
    "one row subtracted first": reference.cov,
}


@pytest.mark.parametrize("name", others_are_slow(COVARIANCES))
@strategies.steady
@given(weighted_samples() | weighted_samples(np.complex128, st.just(())))
def test_no_covariance_exceeds_its_bound(name, case):
    x, w, ddof = case
    want, bound = exact_cov(x, ddof=ddof, **w), cov_bound(x, ddof=ddof, **w)
    assert ratio(COVARIANCES[name](x, ddof=ddof, **w), want, bound) <= 1


@pytest.mark.parametrize("name", others_are_slow(COVARIANCES))
@strategies.steady
@given(weighted_samples(np.float32, offsets=(0.0, 1.0, 100.0)))
def test_no_covariance_in_single_precision_exceeds_its_bound(name, case):
    x, w, ddof = case
    want = exact_cov(x, ddof=ddof, **w)
    bound = cov_bound(x, ddof=ddof, **w, dtype=SINGLE)
    assert ratio(COVARIANCES[name](x, ddof=ddof, **w, dtype=SINGLE), want, bound) <= 1


@strategies.steady
@given(weighted_samples(stacks=st.just(())))
def test_running_updates_do_not_exceed_the_streamed_bound(case):
    x, w, ddof = case
    want = exact_cov(x, ddof=ddof, **w)
    bound = cov_bound(x, ddof=ddof, **w, streamed=True)
    assert (bound >= cov_bound(x, ddof=ddof, **w)).all()
    assert ratio(mutant("cov", WELFORD)(x, ddof=ddof, **w), want, bound) <= 1
    a, f = w.get("aweights"), w.get("fweights")
    parts = [
        mvgauss.Moments(x[i], None if a is None else a[i], fweights=None if f is None else f[i])
        for i in (slice(0, 1), slice(1, None))
    ]
    merged = parts[0].merge(parts[1]).cov(ddof=ddof)
    assert ratio(np.reshape(merged, want.shape), want, bound) <= 1


@strategies.steady
@given(weighted_samples(stacks=st.just(())))
def test_no_mean_exceeds_its_bound(case):
    x, w, _ = case
    weights = w.get("aweights", 1) * w.get("fweights", np.ones(len(x)))
    want, bound = exact_mean(x, **w), mean_bound(x, **w)
    assert ratio(np.average(x, axis=0, weights=weights), want, bound) <= 1
    assert ratio(mvgauss.Moments(x, w.get("aweights"), fweights=w.get("fweights")).mean, want, bound) <= 1


INVERSES = {
    "mvgauss.pinv": mvgauss.pinv,
    "numpy.linalg.pinv": peers.numpy_pinv,
    "scipy.linalg.pinvh": peers.scipy_pinvh,
    "eigenvalues": reference.pinv,
}


@pytest.mark.parametrize("name", others_are_slow(INVERSES))
@strategies.steady
@given(strategies.covariances((1, 5), condition=2.0**30, scales=SCALES))
def test_no_inverse_exceeds_its_bound(name, s):
    assert ratio(INVERSES[name](s), exact_pinv(s), pinv_bound(s)) <= 1


@pytest.mark.parametrize("name", others_are_slow(INVERSES))
@strategies.steady
@given(st.data(), st.integers(1, 5), st.sampled_from([1.0, 2.0**-30, 2.0**30]))
def test_no_pseudo_inverse_exceeds_its_bound(name, data, c, scale):
    """Of whole numbers, so that a rank is a rank: eigenvalues are 0, or at least 1e-12 of the largest.

    The cut-off is given: an eigenvalue of zero may come out somewhat above C eps, by one LAPACK or another.
    """
    r = data.draw(st.integers(0, c))
    numbers = st.lists(st.integers(-3, 3), min_size=c * r, max_size=c * r)
    f = np.array(data.draw(numbers), float).reshape(c, r)
    s = scale * (f @ f.T)
    rank = np.linalg.matrix_rank(f) if r else 0
    assert ratio(INVERSES[name](s, rtol=1e-13), exact_pinv(s), pinv_bound(s, rank=rank)) <= 1


@strategies.steady
@given(strategies.covariances((1, 4), condition=2.0**8, dtype=np.float32))
def test_no_inverse_in_single_precision_exceeds_its_bound(s):
    want, bound = exact_pinv(s, dtype=np.float64), pinv_bound(s, dtype=SINGLE)
    values, vectors = np.linalg.eigh(s)
    assert values.dtype == SINGLE
    assert ratio((vectors / values) @ vectors.T, want, bound) <= 1
    assert ratio(mvgauss.pinv(s), want, bound) <= 1


def quadratic_form(x, mean, p, squared=False):
    """Return distances as they are written in most notebooks."""
    z = x - mean
    d = np.maximum(np.einsum("ni,ij,nj->n", z, p, z), 0)
    return d if squared else np.sqrt(d)


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("function", [mvgauss.mahalanobis, quadratic_form], ids=["mvgauss", "quadratic form"])
@strategies.steady
@given(
    strategies.covariances((1, 4), condition=2.0**20, scales=SCALES),
    st.lists(st.integers(-20, 20), min_size=12, max_size=12),
    st.sampled_from([0.0, 1e6]),
)
def test_no_distance_exceeds_its_bound(function, squared, p, numbers, offset):
    c = len(p)
    x = np.array(numbers, float)[: 12 // c * c].reshape(-1, c) / 7 + offset
    mean = np.full(c, 0.1 + offset)
    p = p + np.eye(c) * 2.0**-30 * np.abs(p).max()  # rounding may not make it indefinite
    want = exact_mahalanobis(x, mean, p, squared=squared)
    bound = distance_bound(x, mean, p, squared=squared)
    assert ratio(function(x, mean, p, squared=squared), want, bound) <= 1


# ---- the bounds are not vacuous

X = np.random.default_rng(1).standard_normal((40, 5))


def test_single_precision_exceeds_the_bound_of_double():
    assert ratio(mvgauss.cov(X, dtype=np.float32), exact_cov(X), cov_bound(X)) > 1e5
    p = np.linalg.inv(exact_cov(X).astype(np.float32))
    assert ratio(p, exact_pinv(exact_cov(X)), pinv_bound(exact_cov(X))) > 1e5
    mean = np.zeros(5)
    single = quadratic_form(X.astype(np.float32), mean.astype(np.float32), np.eye(5, dtype=np.float32))
    assert ratio(single, exact_mahalanobis(X, mean, np.eye(5)), distance_bound(X, mean, np.eye(5))) > 1e5


@pytest.mark.parametrize(("offset", "least"), [(1e3, 10), (1e6, 1e6)])
def test_the_one_pass_formula_exceeds_the_bound_far_from_zero(offset, least):
    far = X + offset
    assert ratio(mutant("cov", ONE_PASS)(far), exact_cov(far), cov_bound(far)) > least


def test_running_updates_exceed_the_bound_of_two_passes_far_from_zero():
    far = X + 1e6
    assert ratio(mutant("cov", WELFORD)(far), exact_cov(far), cov_bound(far)) > 10


@pytest.mark.parametrize(
    "changed",
    [
        "out = scatter / divisor[..., None, None] + 1e-8 * np.eye(x.shape[-1])",
        "mean = x.mean(axis=-2, keepdims=True)",
        "divisor = total - ddof",
    ],
)
def test_wrong_formulas_exceed_the_bound_by_far(changed):
    a = np.arange(1.0, 41)
    got = mutant("cov", changed)(X, aweights=a)
    assert ratio(got, exact_cov(X, aweights=a), cov_bound(X, aweights=a)) > 1e4


def test_bounds_are_small_multiples_of_what_theory_says():
    n, eps = len(X), np.finfo(float).eps
    z = np.abs(X - X.mean(axis=0))
    assert (cov_bound(X) < 4 * n * eps * (z.T @ z) / (n - 1)).all()
    s = exact_cov(X)
    assert pinv_bound(s).max() < 100 * 25 * eps * np.linalg.cond(s) * np.linalg.norm(np.linalg.inv(s), 2)


def test_a_divisor_near_zero_has_no_bound():
    assert np.isinf(cov_bound(X, ddof=40)).all()
    assert np.isinf(cov_bound(X, ddof=39.999999999999999)).all()
    assert np.isfinite(cov_bound(X, ddof=39)).all()


def test_an_inverse_whose_rank_may_change_has_no_bound():
    s = np.diag([1.0, 1e-15])
    assert np.isinf(pinv_bound(s, rank=2)).all()
    assert np.isfinite(pinv_bound(s, rank=1)).all()
    assert np.isinf(pinv_bound(np.eye(2), error=0.6)).all()
    assert (pinv_bound(np.zeros((2, 3, 3))) == 0).all()


def test_bounds_have_the_shape_of_the_answer():
    assert cov_bound(X[:, 0]).shape == ()
    assert cov_bound(X[:, :1]).shape == ()
    assert cov_bound(X.T, rowvar=True).shape == (5, 5)
    assert cov_bound(X.reshape(2, 4, 5, 5)).shape == (2, 4, 5, 5)
    assert mean_bound(X.reshape(2, 4, 5, 5)).shape == (2, 4, 5)
    assert pinv_bound(np.ones((3, 1, 2, 2))).shape == (3, 1, 2, 2)
    assert distance_bound(X, X[0], np.eye(5)).shape == (40,)
    assert distance_bound(X[0], X[1], np.eye(5)).shape == ()
