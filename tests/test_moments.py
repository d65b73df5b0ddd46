"""Laws of `Moments`."""

from itertools import pairwise

import numpy as np
import pytest
from common import (
    EPS,
    KINDS,
    assert_within,
    divisor,
    frozen,
    product,
    samples,
    scatter_bound,
    seeds,
    weights_of,
)
from hypothesis import assume, given
from hypothesis import strategies as st

from mvgauss import Moments, cov
from mvgauss.testing import exact_cov, exact_mean, mean_bound


@pytest.mark.parametrize("kind", KINDS)
@given(x=samples([()], n=(1, 6), c=(1, 3)), seed=seeds)
def test_moments_are_the_exact_moments(x, kind, seed):
    w = weights_of(x, kind, seed)
    m, n = Moments(x, **w), len(x)
    total, squared = (v.sum() for v in product(x, w))
    assert m.n_samples == n
    assert_within(m.sum_weights, total, n * EPS * total)
    assert_within(m.sum_squared_weights, squared, n * EPS * squared)
    assert_within(m.mean, exact_mean(x, **w), mean_bound(x, **w))
    want = total * exact_cov(x, ddof=0, **w)
    assert_within(m.scatter, np.reshape(want, m.scatter.shape), scatter_bound(x, w))


@pytest.mark.parametrize("kind", KINDS)
@given(x=samples(n=(2, 9), dtypes=[np.float64, np.complex128]), seed=seeds, ddof=st.sampled_from([0, 1, 0.5]))
def test_cov_is_made_of_moments(x, kind, seed, ddof):
    w = weights_of(x, kind, seed)
    assume((divisor(x, ddof, w) > 1e-3).all())
    got, want = Moments(x, **w).cov(ddof=ddof), cov(x, ddof=ddof, **w)
    np.testing.assert_array_equal(got.reshape(want.shape), want)
    np.testing.assert_array_equal(Moments(x, **w).cov(bias=True), Moments(x, **w).cov(ddof=0))


@given(
    x=samples(n=(1, 12), dtypes=[np.float64, np.complex128]),
    cuts=st.lists(st.integers(0, 12), max_size=3),
    seed=seeds,
    kind=st.sampled_from(KINDS),
)
def test_any_split_of_the_rows_merges_into_the_whole(x, cuts, seed, kind):
    w = weights_of(x, kind, seed)
    edges = [0, *sorted(min(cut, x.shape[-2]) for cut in cuts), x.shape[-2]]
    pieces = [slice(i, j) for i, j in pairwise(edges)]
    # a part whose weights are all zero is refused; it would be an empty part
    weight = np.prod([np.ones(x.shape[-2]), *w.values()], axis=0)
    pieces = [p for p in pieces if p.stop == p.start or weight[p].any()]
    merged = None
    for p in pieces:
        part = Moments(x[..., p, :], **{k: v[p] for k, v in w.items()})
        merged = part if merged is None else merged.merge(part)
    keep = np.concatenate([np.arange(x.shape[-2])[p] for p in pieces])
    x, w = x[..., keep, :], {k: v[keep] for k, v in w.items()}
    assert_same(merged, Moments(x, **w), x, w)


def assert_same(got, want, x, w):
    """Assert equal moments, up to the rounding of a merge of parts of `x` with weights `w`."""
    n = x.shape[-2]
    assert got.n_samples == want.n_samples
    assert_within(got.sum_weights, want.sum_weights, n * EPS * want.sum_weights)
    assert_within(got.sum_squared_weights, want.sum_squared_weights, n * EPS * want.sum_squared_weights)
    assert_within(got.mean, want.mean, 2 * mean_bound(x, **w))
    bound = 2 * scatter_bound(x, w, streamed=True)
    assert_within(got.scatter, want.scatter, np.reshape(bound, got.scatter.shape))


def thirds(x, seed, kind):
    """Return the moments of three weighted parts of the rows, and all of the weights."""
    rng = np.random.default_rng(seed)
    w = {k: rng.uniform(0.5, 2, x.shape[-2]) for k in ("aweights",) if "a" in kind}
    w |= {k: rng.integers(1, 4, x.shape[-2], np.intp) for k in ("fweights",) if "f" in kind}
    runs = np.array_split(np.arange(x.shape[-2]), 3)
    return [Moments(x[..., r, :], **{k: v[r] for k, v in w.items()}) for r in runs], w


@given(x=samples(n=(3, 12)), seed=seeds, kind=st.sampled_from(KINDS))
def test_merging_is_commutative_and_associative(x, seed, kind):
    (a, b, c), w = thirds(x, seed, kind)
    assert_same(a.merge(b).merge(c), a.merge(c.merge(b)), x, w)


@given(x=samples(), kind=st.sampled_from(KINDS), seed=seeds)
def test_an_empty_part_is_neutral(x, kind, seed):
    m, empty = Moments(x, **weights_of(x, kind, seed)), Moments(x[..., :0, :])
    for merged in (m.merge(empty), empty.merge(m)):
        assert merged.n_samples == m.n_samples
        for name in ("sum_weights", "sum_squared_weights", "mean", "scatter"):
            np.testing.assert_array_equal(getattr(merged, name), getattr(m, name))


def test_nothing_and_nothing_is_nothing():
    empty = Moments(np.zeros((0, 2)))
    both = empty.merge(empty)
    assert both.n_samples == both.sum_weights == 0
    assert (both.mean == 0).all()
    assert (both.scatter == 0).all()


@given(x=samples(n=(2, 12), dtypes=[np.float64, np.complex128]))
def test_merged_moments_are_symmetric_to_the_last_bit(x):
    m = Moments(x[..., :1, :]).merge(Moments(x[..., 1:, :]))
    assert (m.scatter == m.scatter.conj().swapaxes(-1, -2)).all()
    assert (np.diagonal(m.scatter, axis1=-2, axis2=-1).imag == 0).all()


def test_merging_changes_neither_part(rng):
    a, b = Moments(rng.standard_normal((4, 3))), Moments(rng.standard_normal((5, 3)))
    before = [np.array(v) for m in (a, b) for v in vars(m).values()]
    for m in (a, b):
        for v in vars(m).values():
            isinstance(v, np.ndarray) and v.setflags(write=False)
    a.merge(b)
    for old, new in zip(before, [v for m in (a, b) for v in vars(m).values()], strict=True):
        np.testing.assert_array_equal(old, new)


def test_merged_parts_far_apart_keep_the_distance_between_them():
    a, b = Moments([[0.0], [2.0]]), Moments([[100.0], [102.0], [104.0]])
    assert_within(a.merge(b).mean, [61.6], 8 * EPS * 104)
    want = 2 + 8 + 2 * 3 / 5 * 101.0**2
    assert_within(a.merge(b).scatter, [[want]], 8 * EPS * want)


def test_moments_of_a_stack_have_the_shapes_they_say(rng):
    m = Moments(frozen(rng.standard_normal((2, 3, 5, 4))), fweights=[1, 2, 3, 1, 1])
    assert m.n_samples == 5
    assert m.sum_weights.shape == m.sum_squared_weights.shape == (2, 3)
    assert m.mean.shape == (2, 3, 4)
    assert m.scatter.shape == (2, 3, 4, 4)
    assert (m.sum_weights == 8).all()


def test_moments_are_in_the_dtype_asked_for(rng):
    m = Moments(frozen(rng.standard_normal((5, 2))), dtype=np.float32)
    assert m.mean.dtype == m.scatter.dtype == np.float32
    assert m.sum_weights.dtype == m.sum_squared_weights.dtype == np.float64
    assert Moments(np.ones((2, 2), np.float32)).scatter.dtype == np.float64
    half = Moments(frozen(rng.standard_normal((5, 2))), dtype=np.float16)
    assert half.mean.dtype == half.scatter.dtype == np.float32  # in which it is computed


@pytest.mark.parametrize("ddof", [0, 1, 2.5])
def test_the_divisor_is_that_of_the_definition(ddof):
    f, a = np.array([1, 2, 3]), np.array([0.5, 1.0, 2.0])
    m = Moments(np.eye(3), a, fweights=f)
    np.testing.assert_allclose(
        m.divisor(ddof), (f * a).sum() - ddof * (f * a * a).sum() / (f * a).sum(), rtol=8 * EPS
    )
    assert Moments(np.eye(3)).divisor(ddof) == 3 - ddof
    assert Moments(np.eye(3)).divisor() == 2
    assert Moments(np.zeros((0, 2))).divisor(ddof) == -ddof


@pytest.mark.parametrize(("size", "taken"), [(5e-141, False), (2e-140, True), (5e139, True), (2e140, False)])
def test_aweights_are_taken_where_their_squares_keep_their_digits(rng, size, taken):
    x, w = frozen(rng.standard_normal((7, 2))), frozen([1, 0.5, 0, 0.25, 0.125, 1, 0.75])
    if taken:
        np.testing.assert_allclose(Moments(x, size * w).cov(), cov(x, aweights=w), rtol=1e-13)
    else:
        with pytest.raises(ValueError, match="aweights: expected weights whose largest is between"):
            Moments(x, size * w)


@pytest.mark.parametrize("n", [2, 5, 40])
def test_a_constant_may_merge_with_another(n):
    """Parts that do not vary, so that the whole varies only between them."""
    merged = Moments(np.full((n, 3), 0.1)).merge(Moments(np.full((n, 3), 0.3)))
    np.testing.assert_allclose(merged.scatter, np.full((3, 3), n / 2 * 0.04), rtol=1e-14)


def test_rows_without_weight_change_nothing_wherever_they_lie(rng):
    """So many that the runs in which they are summed have no weight at all."""
    x = rng.standard_normal((400_000, 2))
    x[:200_000] += 1e12
    w = np.repeat([0, 1], 200_000)
    m, without = Moments(frozen(x), fweights=frozen(w)), Moments(x[200_000:])
    np.testing.assert_allclose(m.mean, without.mean, rtol=0, atol=1e-12)
    np.testing.assert_allclose(m.cov(), without.cov(), rtol=0, atol=1e-12)
    turned = Moments(frozen(x[::-1]), fweights=frozen(w[::-1]))
    np.testing.assert_allclose(turned.mean, without.mean, rtol=0, atol=1e-12)


def test_a_part_of_little_weight_that_lies_far_away_costs_the_other_no_digits(rng):
    x = frozen(rng.standard_normal((20, 3)))
    light, heavy = Moments(x[:10] + 1e12, np.full(10, 1e-30)), Moments(x[10:])
    for merged in (light.merge(heavy), heavy.merge(light)):
        np.testing.assert_allclose(merged.mean, heavy.mean, rtol=0, atol=1e-14)
