"""Laws of p-values: exact, a bound, or ranks among good distances; and models that have none."""

import math

import numpy as np
import pytest
import scipy.stats
from common import SIGMAS, fires, frozen, seeds, simulated
from hypothesis import given
from hypothesis import strategies as st

from mvgauss import MultiVariateGaussian

#: How far an empirical distribution of n values lies above the true one, times sqrt(n), once in a million:
#: exp(-2 x^2) (Massart 1990).
KOLMOGOROV = math.sqrt(math.log(1e6) / 2)


def largest_excess(p):
    """Return by how much more often than uniform ones p-values are small, at the worst level."""
    p = np.sort(p, axis=None)
    return float((np.arange(1, p.size + 1) / p.size - p).max()) * math.sqrt(p.size)


# ---- the exact law


@pytest.mark.parametrize(("n", "c", "ddof"), [(20, 4, 1), (20, 4, 0), (6, 4, 2.5), (5, 4, 1), (2, 1, 1)])
def test_p_values_of_good_patches_are_uniform_under_hotellings_law(rng, n, c, ddof):
    """One new sample for each fit: the values are independent."""
    model, _, test = simulated(rng, n=n, c=c, reg_covar=0, ddof=ddof, patches=20_000)
    assert model.p_value_law == "hotelling"
    p = model.p_value(test).ravel()
    for level in (0.001, 0.01, 0.05, 0.25, 0.5, 0.9):
        fires(p, level)
    assert largest_excess(p) < KOLMOGOROV
    assert largest_excess(1 - p) < KOLMOGOROV


@given(seeds, st.integers(2, 40), st.integers(1, 6), st.sampled_from([0, 0.5, 1]))
def test_the_exact_p_value_is_hotellings_whatever_ddof(seed, n, c, ddof):
    rng = np.random.default_rng(seed)
    n = max(n, c + 1)
    train, test = rng.standard_normal((n, c, 2)), 3 * rng.standard_normal((5, c, 2))
    model = MultiVariateGaussian(reg_covar=0, ddof=ddof).fit(train)
    d2 = model.mahalanobis(test, squared=True) * (n - 1) / (n - ddof)
    want = scipy.stats.f.sf(d2 * n * (n - c) / (c * (n + 1) * (n - 1)), c, n - c)
    np.testing.assert_allclose(model.p_value(test), want, rtol=1e-8, atol=1e-300)


def test_a_tiny_exact_p_value_keeps_its_digits():
    """Far out, 1 - cdf would be zero."""
    train = np.concatenate([np.eye(2), -np.eye(2)] * 15)
    model = MultiVariateGaussian(reg_covar=0).fit(train)
    d2 = model.mahalanobis([[1e3, 0.0]], squared=True)
    want = scipy.stats.f.sf(d2 * 60 * 58 / (2 * 61 * 59), 2, 58)
    assert 0 < want[0] < 1e-100
    np.testing.assert_allclose(model.p_value([[1e3, 0.0]]), want, rtol=1e-9)


def test_the_exact_law_counts_the_rank_of_a_deficient_patch(rng):
    train, test = rng.standard_normal((12, 3, 3)), rng.standard_normal((5, 3, 3))
    train[:, 1, 0] = 4
    train[:, :, 1] = 4
    model = MultiVariateGaussian(reg_covar=0).fit(train)
    assert model.p_value_law == "hotelling"
    want = MultiVariateGaussian(reg_covar=0).fit(train[:, ::2, :1]).p_value(test[:, ::2, :1])
    np.testing.assert_allclose(model.p_value(test)[:, :1], want, rtol=1e-11)
    np.testing.assert_array_equal(model.p_value(test)[:, 1], 1)  # nothing varies: whatever comes is as near


@pytest.mark.parametrize("options", [{"reg_covar": 0}, {}, {"shrinkage": "ledoit_wolf"}], ids=str)
def test_p_values_survive_streams_files_and_merges(rng, tmp_path, options):
    train, test = rng.standard_normal((12, 3, 4)), rng.standard_normal((5, 3, 4))
    want = MultiVariateGaussian(**options).fit(train, sample_weight=np.ones(12))
    merged = MultiVariateGaussian(**options).fit(train[:6])
    merged.merge(MultiVariateGaussian(**options).fit(train[6:])).save(tmp_path / "m", resumable=False)
    got = MultiVariateGaussian.load(tmp_path / "m")
    assert got.p_value_law == want.p_value_law
    np.testing.assert_allclose(got.p_value(test), want.p_value(test), rtol=1e-10)


# ---- the bound

REGULARISED = {
    "ridge": {"reg_covar": 0.01},
    "large ridge": {"reg_covar": 3.0},
    "fixed": {"reg_covar": 0, "shrinkage": 0.1},
    "fixed, large, ridge": {"reg_covar": 0.3, "shrinkage": 0.7},
    "oas": {"reg_covar": 0, "shrinkage": "oas"},
    "ledoit_wolf": {"reg_covar": 0, "shrinkage": "ledoit_wolf", "ddof": 0},
    "ledoit_wolf, ridge": {"reg_covar": 0.1, "shrinkage": "ledoit_wolf"},
}


@pytest.mark.parametrize("options", list(REGULARISED))
@pytest.mark.parametrize(("n", "c"), [(3, 1), (5, 3), (9, 7), (12, 4), (60, 4)])
def test_p_values_of_good_patches_are_never_smaller_than_uniform_ones_under_the_bound(rng, options, n, c):
    """Gaussian features of unequal variances that depend on each other; 4,000 fits, a new sample each."""
    model, _, test = simulated(rng, n=n, c=c, patches=4000, **REGULARISED[options])
    assert model.p_value_law == "hotelling-bound"
    assert largest_excess(model.p_value(test)) < KOLMOGOROV


@given(seeds, st.integers(4, 30), st.sampled_from(list(REGULARISED)), st.sampled_from([0, 1, 2]))
def test_the_bound_is_at_least_the_exact_p_value_of_the_same_samples(seed, n, options, ddof):
    rng = np.random.default_rng(seed)
    train, test = rng.standard_normal((n, 3, 2)) * [[5], [1], [0.2]], 3 * rng.standard_normal((5, 3, 2))
    model = MultiVariateGaussian(**REGULARISED[options] | {"ddof": ddof}).fit(train)
    exact = MultiVariateGaussian(reg_covar=0).fit(train)
    assert (model.p_value(test) >= exact.p_value(test) * (1 - 1e-9)).all()


def test_a_tiny_ridge_gives_the_exact_p_values(rng):
    """The bound loses nothing where nothing is added."""
    train, test = rng.standard_normal((12, 3, 4)), rng.standard_normal((5, 3, 4))
    p, exact = (MultiVariateGaussian(reg_covar=r).fit(train).p_value(test) for r in (1e-12, 0))
    np.testing.assert_allclose(p, exact, rtol=1e-9)


@pytest.mark.parametrize("options", list(REGULARISED))
def test_a_good_image_exceeds_the_default_limit_at_most_five_times_of_a_hundred(rng, options):
    """150 fits of 20 images of 4 patches, 6,000 new images."""
    above = []
    for _ in range(150):
        train, new = rng.standard_normal((20, 4, 4)), rng.standard_normal((40, 4, 4))
        model = MultiVariateGaussian(n_jobs=1, **REGULARISED[options]).fit(train)
        if model.diagnostics()["shrinkage"].max() < 1:  # which leaves nothing of the covariance, and no limit
            above.append(np.mean(model.mahalanobis(new).max(axis=1) > model.threshold_))
    assert np.mean(above or [0]) < 0.05 + SIGMAS * np.std(above or [0]) / math.sqrt(150)


# ---- which law a model has

LAWS = {
    "nothing added": ({"reg_covar": 0}, 12, None, "hotelling"),
    "shrinkage of zero": ({"reg_covar": 0, "shrinkage": 0.0}, 12, None, "hotelling"),
    "weights of one": ({"reg_covar": 0}, 12, np.ones(12), "hotelling"),
    "one sample more than features": ({"reg_covar": 0}, 4, None, "hotelling"),
    "ridge": ({}, 12, None, "hotelling-bound"),
    "tiny ridge": ({"reg_covar": 1e-300}, 12, None, "hotelling-bound"),
    "shrinkage": ({"reg_covar": 0, "shrinkage": 0.1}, 12, None, "hotelling-bound"),
    "oas": ({"reg_covar": 0, "shrinkage": "oas"}, 12, None, "hotelling-bound"),
    "ledoit_wolf": ({"shrinkage": "ledoit_wolf"}, 12, None, "hotelling-bound"),
    "as many samples as features": ({}, 3, None, None),
    "fewer samples than features": ({"shrinkage": 0.1}, 2, None, None),
    "samples that count twice": ({}, 12, np.full(12, 2), None),
    "unequal weights": ({}, 12, np.linspace(1, 2, 12), None),
    "almost equal weights": ({"reg_covar": 0}, 12, np.linspace(1, 1.01, 12), None),
    "a zero weight": ({"reg_covar": 0}, 12, np.arange(12) > 0, None),
}


@pytest.mark.parametrize("case", list(LAWS))
def test_a_model_has_the_law_of_the_table_and_any_may_be_calibrated(rng, tmp_path, case):
    options, n, w, law = LAWS[case]
    x = frozen(rng.standard_normal((n, 3, 4)))
    model = MultiVariateGaussian(**options).fit(x, sample_weight=w)
    model.save(tmp_path / "m", resumable=False)
    for one in (model, MultiVariateGaussian.load(tmp_path / "m")):
        if law is None:
            for ask in (lambda one=one: one.p_value_law, lambda one=one: one.p_value(x)):
                with pytest.raises(ValueError, match=r"p_value: expected .*: model\.calibrate\(train\)"):
                    ask()
        else:
            assert one.p_value_law == law
    if n > 4 or (n > 2 and options.get("reg_covar", 1)):
        assert model.calibrate(x, sample_weight=w).p_value_law == "leave-one-out"


def test_parts_of_different_weight_have_no_law(rng):
    x = rng.standard_normal((12, 3, 4))
    model = MultiVariateGaussian().partial_fit(x[:6]).partial_fit(x[6:], sample_weight=[2.0] * 6)
    other = MultiVariateGaussian().partial_fit(x[:6])
    other.merge(MultiVariateGaussian().partial_fit(x[6:], sample_weight=[2.0] * 6))
    for one in (model, other):
        with pytest.raises(ValueError, match="weights other than 1"):
            one.p_value(x)


def test_given_parameters_follow_chi_squared_which_is_exact_for_a_known_gaussian(rng):
    s, p = np.diag([4.0, 1.0, 0.25]), np.diag([0.25, 1.0, 4.0])
    model = MultiVariateGaussian.from_parameters(np.zeros((3, 5000)), np.broadcast_to(p, (5000, 3, 3)))
    assert model.p_value_law == MultiVariateGaussian(3, 2).p_value_law == "chi2"
    x = (rng.standard_normal((4, 5000, 3)) @ np.sqrt(s)).swapaxes(1, 2)
    want = scipy.stats.chi2.sf(model.mahalanobis(x, squared=True), 3)
    np.testing.assert_allclose(model.p_value(x), want, rtol=1e-9)
    assert largest_excess(want) < KOLMOGOROV
    assert largest_excess(1 - want) < KOLMOGOROV
    some = MultiVariateGaussian.from_parameters(np.zeros((3, 1)), np.diag([1.0, 0, 0])[None], rank=1)
    np.testing.assert_allclose(some.p_value([[2.0, 9, 9]]), scipy.stats.chi2.sf(4, 1), rtol=1e-9)
    none = MultiVariateGaussian.from_parameters(np.zeros((3, 1)), np.zeros((1, 3, 3)), rank=0)
    assert none.p_value([[2.0, 9, 9]]) == 1


# ---- ranks among leave-one-out distances


@pytest.mark.parametrize(("c", "close"), [(4, 0.04), (30, 0.15)])
def test_ranks_among_leave_one_out_distances_are_close_to_uniform_and_never_fire_too_often(rng, c, close):
    """With a ridge: closer with more samples than features, safe with fewer."""
    model, train, test = simulated(rng, n=20, c=c, patches=4000)
    p = model.calibrate(train).p_value(test)
    assert p.min() >= 1 / 21
    for level in (1 / 21, 2 / 21, 5 / 21, 10 / 21, 16 / 21):
        rate = float((p <= level * (1 + 1e-9)).mean())
        noise = SIGMAS * math.sqrt(level * (1 - level) / p.size)
        assert level - close - noise < rate < level + noise


@pytest.mark.parametrize("ties", [False, True])
def test_a_rank_counts_the_good_distances_that_are_as_large(train, test, ties):
    if ties:
        train, test = np.rint(train / 4), np.concatenate([np.rint(test / 4), np.rint(train / 4)])
    model = MultiVariateGaussian().fit(train)
    good = model.leave_one_out(train)
    p, d = model.calibrate(train).p_value(test), model.mahalanobis(test)
    np.testing.assert_allclose(p, (1 + (good[:, None] >= d).sum(axis=0)) / 31, rtol=1e-14)
    assert model.p_value(test + 1e3).max() == pytest.approx(1 / 31)
