"""Laws of `pinv` and `mahalanobis`."""

import numpy as np
import pytest
from common import (
    EPS,
    LAYOUTS,
    SINGLE,
    assert_within,
    block_sizes,
    blocks_of,
    covariances,
    distance_bound,
    frozen,
    inverse_bound,
    layouts,
    pinvh,
    seeds,
    spectrum,
)
from hypothesis import given
from hypothesis import strategies as st

from mvgauss import cov, mahalanobis, pinv

SIZES = [1, 2, 3, 8, 12, 13, 25, 40, 64, 100, 131]
conditions = st.sampled_from([1.0, 1e3, 1e6])
scales = st.sampled_from([1e-12, 1e-6, 1.0, 1e6, 1e12])


@st.composite
def mixed(draw, c=(1, 16)):
    """Draw a stack of full, deficient and zero matrices of one size and scale, and their ranks."""
    c, rng = draw(st.integers(*c)), np.random.default_rng(draw(seeds))
    ranks = draw(st.lists(st.integers(0, c), min_size=1, max_size=5))
    s = np.array([covariances(rng, (), c, r, draw(conditions)) for r in ranks])
    return frozen(s * draw(scales)), np.array(ranks)


def distance(x, mean, inverse):
    """Return the root of the quadratic form for each vector of ``(M, C)``."""
    z = np.asarray(x, float) - mean
    return np.sqrt(np.maximum(np.einsum("mi,ij,mj->m", z, inverse, z), 0))


# ---- pinv


@given(mixed(), block_sizes)
def test_pinv_is_a_loop_of_scipys_pinvh(stack, size):
    s, ranks = stack
    with blocks_of(size):
        got, rank = pinv(s, 1e-9, return_rank=True)
    want, want_rank = pinvh(s, 1e-9)
    np.testing.assert_array_equal(rank, want_rank)
    np.testing.assert_array_equal(rank, ranks)
    assert_within(got, want, inverse_bound(s))


@given(mixed())
def test_the_four_identities_of_moore_and_penrose_hold(stack):
    s, _ = stack
    p = pinv(s, 1e-9)
    assert (p == p.swapaxes(-1, -2)).all()
    top, low = spectrum(s)
    bound = (32 * s.shape[-1] * EPS * np.where(low > 0, top / low, 1))[:, None, None]
    assert_within(s @ p @ s, s, bound * top[:, None, None])
    assert_within(p @ s @ p, p, bound / low[:, None, None])
    assert_within(s @ p, (s @ p).swapaxes(-1, -2), bound)
    assert_within(p @ s, (p @ s).swapaxes(-1, -2), bound)


@pytest.mark.parametrize("c", SIZES)
@pytest.mark.parametrize("n", [2, 5, 12])
def test_covariances_of_few_samples_have_rank_n_minus_one(rng, n, c):
    x = rng.standard_normal((4, n, c)) * [[[1e-3]], [[1]], [[1e3]], [[1]]]
    s = frozen(np.reshape(cov(x), (4, c, c)))
    got, rank = pinv(s, return_rank=True)
    assert (rank == min(n - 1, c)).all()
    assert_within(got, pinvh(s)[0], inverse_bound(s))


@given(mixed(), st.integers(-30, 30))
def test_a_unit_that_is_a_power_of_two_changes_no_bit_of_the_inverse(stack, exponent):
    s, _ = stack
    got, rank = pinv(s * 4.0**exponent, return_rank=True)
    want, want_rank = pinv(s, return_rank=True)
    np.testing.assert_array_equal(rank, want_rank)
    np.testing.assert_array_equal(got, want * 4.0**-exponent)


@pytest.mark.parametrize("scale", [2.0**-1000, 2.0**-660, 2.0**-520, 2.0**500, 2.0**660, 2.0**1000])
@pytest.mark.parametrize("rank", [1, 3, 6])
def test_ranks_hold_at_the_ends_of_the_range_of_doubles(rng, scale, rank):
    s = np.array([covariances(rng, (), 6, rank, 10) for _ in range(50)])
    got, ranks = pinv(s * scale, return_rank=True)
    assert (ranks == rank).all()
    assert_within(got * scale, pinvh(s)[0], inverse_bound(s))


@pytest.mark.parametrize("c", [2, 3, 12, 13, 14, 40])
@pytest.mark.parametrize("cut", [1e-2, 1e-6, 1e-12])
def test_eigenvalues_at_the_cut_off_are_dropped_and_above_it_kept(c, cut):
    values = np.ones((3, c))
    values[:, c // 2] = [np.nextafter(cut, 0), cut, np.nextafter(cut, 1)]
    s = frozen(values[:, :, None] * np.eye(c))
    got, rank = pinv(s, cut, return_rank=True)
    assert rank.tolist() == [c - 1, c - 1, c]
    kept = np.where(np.arange(c) == c // 2, [[0], [0], [1]], 1)
    assert_within(np.diagonal(got, axis1=1, axis2=2), kept / values, 8 * EPS / values)


@pytest.mark.parametrize("c", [2, 5, 13, 14, 40])
def test_the_default_cut_off_is_c_times_epsilon(c):
    values = np.ones((2, c))
    values[:, 0] = [0.99 * c * EPS, 1.01 * c * EPS]
    s = values[:, :, None] * np.eye(c)
    assert pinv(s, return_rank=True)[1].tolist() == [c - 1, c]
    eps = np.finfo(np.float32).eps
    values[:, 0] = [0.99 * c * eps, 1.01 * c * eps]
    s = (values[:, :, None] * np.eye(c)).astype(np.float32)
    assert pinv(s, return_rank=True)[1].tolist() == [c - 1, c]
    assert pinv(s.astype(float), return_rank=True)[1].tolist() == [c, c]


@given(seeds, st.integers(2, 30), st.floats(-12, -4))
def test_cholesky_factors_and_eigenvalues_decide_alike(seed, c, exponent):
    """Around the cut-off, where a factor proves nothing, the eigenvalues decide."""
    rng, cut = np.random.default_rng(seed), 10.0**exponent
    values = np.ones((8, c))
    values[:, 0] = cut * np.array([0.01, 0.2, 0.9, 1.1, 2, 5, 20, 1000])
    q = np.linalg.qr(rng.standard_normal((8, c, c)))[0]
    s = (q * values[:, None, :]) @ q.swapaxes(1, 2)
    rank = pinv((s + s.swapaxes(1, 2)) / 2, cut, return_rank=True)[1]
    assert rank.tolist() == [c - 1] * 3 + [c] * 5


def test_cut_offs_may_differ_in_the_stack():
    s = frozen(np.broadcast_to(np.diag([1.0, 0.1, 0.01]), (2, 3, 3, 3)))
    rank = pinv(s, [[0.001], [0.05]], return_rank=True)[1]
    assert rank.tolist() == [[3] * 3, [2] * 3]
    assert pinv(s, [0.5, 0.05, 0], return_rank=True)[1].tolist() == [[1, 2, 3]] * 2
    assert pinv(np.diag([1.0, 1e-14, 0]), 0, return_rank=True)[1] == 2
    assert pinv(np.diag([1.0, 0.5]), 1, return_rank=True)[1] == 0


@pytest.mark.parametrize("c", [2, 30])
def test_half_precision_has_the_cut_off_of_single_precision(c):
    s = np.eye(c, dtype=np.float16)
    s[0, 0] = 2 * c * SINGLE
    got, rank = pinv(frozen(s), return_rank=True)
    assert rank == c
    assert got.dtype == np.float32
    s[0, 0] = 0.25 * c * SINGLE
    assert pinv(s, return_rank=True)[1] == c - 1


@pytest.mark.parametrize("dtype", [np.float64, np.int64, np.bool_, np.dtype(">f8"), np.longdouble])
def test_inverses_of_other_numbers_are_double(dtype):
    got = pinv(np.eye(3).astype(dtype))
    assert got.dtype == np.float64
    np.testing.assert_array_equal(got, np.eye(3))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_layout_of_covariances_changes_nothing(rng, tmp_path, layout, any_blocks):
    s = covariances(rng, (2, 3), 5)
    np.testing.assert_array_equal(pinv(layouts(s, tmp_path)[layout]), pinv(s))
    singular = frozen(covariances(rng, (2,), 14, 7), np.float32)
    same, rank = pinv(layouts(singular, tmp_path)[layout], return_rank=True)
    assert (rank == 7).all()
    np.testing.assert_array_equal(same, pinv(singular))


@pytest.mark.parametrize("stack", [(), (1,), (0,), (2, 0), (2, 3), (1, 1, 1)])
def test_the_inverse_has_the_shape_of_the_stack(rng, stack):
    p, rank = pinv(covariances(rng, stack, 3), return_rank=True)
    assert p.shape == (*stack, 3, 3)
    assert rank.shape == stack
    assert rank.dtype.kind == "i"


# ---- mahalanobis


@st.composite
def problems(draw, c=(1, 8), m=(1, 6), full=False):
    """Draw samples (3, M, C), means (3, C), covariances of any rank and their inverses."""
    c, m, rng = draw(st.integers(*c)), draw(st.integers(*m)), np.random.default_rng(draw(seeds))
    rank = c if full else draw(st.integers(1, c))
    scale, offset = draw(st.sampled_from([1e-6, 1.0, 1e6])), draw(st.sampled_from([0, 1000]))
    s = covariances(rng, (3,), c, rank, draw(conditions)) * scale**2
    mean = scale * (rng.standard_normal((3, c)) + offset)
    x = mean[:, None] + scale * rng.standard_normal((3, m, c))
    return frozen(x), frozen(mean), frozen(s)


def bound_of(x, s, d):
    """Return the bound for distances of `x` from Gaussians of covariance `s`."""
    return (
        distance_bound(s, d, np.abs(x).max())
        + 16 * EPS * np.abs(x).max() * np.sqrt(s.shape[-1] / spectrum(s)[1])[..., None]
    )


@given(problems(), block_sizes)
def test_mahalanobis_is_the_root_of_the_quadratic_form(problem, size):
    x, mean, s = problem
    p = pinv(s)
    with blocks_of(size):
        got = mahalanobis(x, mean, p)
    want = np.array([distance(x[i], mean[i], p[i]) for i in range(3)])
    # the quadratic form itself loses half of the digits of what is not in the range of P
    noise = np.sqrt(64 * s.shape[-1] * EPS * ((x - mean[:, None]) ** 2).sum(-1) / spectrum(s)[1][:, None])
    assert_within(got, want, bound_of(x, s, want) + np.where(want < noise, noise, noise**2 / want))


@given(problems())
def test_distances_are_roots_of_squares_and_euclidean_for_the_identity(problem):
    x, mean, s = problem
    squared, root = (mahalanobis(x, mean, pinv(s), squared=flag) for flag in (True, False))
    assert (squared >= 0).all()
    np.testing.assert_array_equal(np.sqrt(squared), root)
    want = np.linalg.norm(x - mean[:, None], axis=-1)
    assert_within(mahalanobis(x, mean, np.eye(s.shape[-1])), want, 8 * s.shape[-1] * EPS * want)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_the_first_of_many_samples_that_is_not_finite_is_named(bad):
    x = np.zeros((200_000, 3))
    x[123_456, 1] = x[150_000, 0] = bad
    with pytest.raises(ValueError, match=r"x: expected finite numbers, got .* at index \(123456, 1\)"):
        mahalanobis(x, np.zeros(3), np.eye(3))


@given(problems(full=True), seeds)
def test_distances_are_affine_invariant(problem, seed):
    x, mean, s = problem
    rng, c = np.random.default_rng(seed), s.shape[-1]
    a = np.linalg.qr(rng.standard_normal((c, c)))[0] * rng.uniform(0.5, 2, c)
    b = np.abs(x).max() * rng.standard_normal(c)
    t = a @ s @ a.T
    want = mahalanobis(x, mean, pinv(s))
    got = mahalanobis(x @ a.T + b, mean @ a.T + b, pinv((t + t.swapaxes(-1, -2)) / 2))
    far = 8 * c * (np.abs(x).max() + np.abs(b).max())
    assert_within(got, want, 4 * distance_bound(s, want, far) + 4 * distance_bound(t, want, far))


def test_one_vector_has_one_distance():
    assert mahalanobis([3.0, 4.0], [0.0, 0.0], np.eye(2)).shape == ()
    assert mahalanobis([3.0, 4.0], [0.0, 0.0], np.eye(2)) == 5
    assert mahalanobis([3.0, 4.0], [0.0, 0.0], np.diag([4.0, 1.0]), squared=True) == 52


def test_the_stacks_of_all_three_broadcast(rng, any_blocks):
    x, mean = frozen(rng.standard_normal((4, 1, 5, 3))), frozen(rng.standard_normal((2, 3)))
    p = covariances(rng, (4, 1), 3)
    got = mahalanobis(x, mean, p)
    want = [[distance(x[i, 0], mean[j], p[i, 0]) for j in range(2)] for i in range(4)]
    assert_within(got, np.array(want), 64 * EPS * (1 + np.array(want)))


def test_a_direction_without_weight_is_ignored():
    for rounding in (0, -1e-12):  # which may be negative
        p = np.diag([1.0, rounding])
        assert mahalanobis([[3.0, 1e6], [0.0, -1e6]], [0.0, 0.0], p).tolist() == [3, 0]


@pytest.mark.parametrize(
    ("dtypes", "want"),
    [("fff", "f"), ("eee", "f"), ("dff", "d"), ("fdf", "d"), ("ffd", "d"), ("ddd", "d"), ("lfe", "d")],
)
def test_distances_have_the_precision_of_their_arguments(dtypes, want):
    x, mean, p = (a.astype(t) for a, t in zip([np.eye(3), np.ones(3), np.eye(3)], dtypes, strict=True))
    assert mahalanobis(x, mean, p).dtype == np.dtype(want)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_layout_of_samples_and_inverses_changes_nothing(rng, tmp_path, layout, any_blocks):
    x, mean = frozen(rng.standard_normal((2, 7, 5))), frozen(rng.standard_normal((2, 5)))
    p = covariances(rng, (2,), 5)
    want = mahalanobis(x, mean, p)
    got = mahalanobis(layouts(x, tmp_path)[layout], layouts(mean)["reversed"], layouts(p)["big-endian"])
    assert_within(got, want, 64 * EPS * want)
