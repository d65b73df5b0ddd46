"""Laws of p-values: exact where the law is known, and ranks among good distances where it is not."""

import math

import numpy as np
import pytest
import scipy.stats
from common import SIGMAS, fires, frozen, seeds, simulated
from hypothesis import given
from hypothesis import strategies as st

from mvgauss import MultiVariateGaussian, _distributions


@pytest.mark.parametrize("ddof", [0, 1, 2.5])
def test_p_values_are_uniform_under_the_model(rng, ddof):
    """One new sample for each fit: the values are independent."""
    model, _, test = simulated(rng, reg_covar=0, ddof=ddof, patches=20_000)
    assert model.p_value_law == "hotelling"
    p = model.p_value(test).ravel()
    for level in (0.001, 0.01, 0.05, 0.25, 0.5, 0.9):
        fires(p, level)
    assert scipy.stats.kstest(p, "uniform").pvalue > 1e-6


def test_the_chi_squared_limit_fires_far_too_often_where_the_exact_law_does_not(rng):
    model, _, test = simulated(rng, reg_covar=0, patches=20_000)
    d2 = model.mahalanobis(test, squared=True)
    rate = float((d2 > scipy.stats.chi2.isf(0.01, 4)).mean())
    # what the law itself says of that limit: 7.1 %
    want = scipy.stats.f.sf(20 * 16 / (4 * 21 * 19) * scipy.stats.chi2.isf(0.01, 4), 4, 16)
    assert want == pytest.approx(0.0709, abs=1e-4)
    assert abs(rate - want) < SIGMAS * math.sqrt(want * (1 - want) / d2.size)
    fires(model.p_value(test), 0.01)


@given(seeds, st.integers(2, 40), st.integers(1, 6))
def test_the_exact_p_value_is_hotellings(seed, n, c):
    rng = np.random.default_rng(seed)
    n = max(n, c + 1)
    train, test = rng.standard_normal((n, c, 2)), 3 * rng.standard_normal((5, c, 2))
    model = MultiVariateGaussian(reg_covar=0).fit(train)
    d2 = model.mahalanobis(test, squared=True)
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


@pytest.mark.parametrize("ddof", [0, 0.5, 1, 3])
def test_ddof_does_not_change_an_exact_p_value(rng, ddof):
    train, test = rng.standard_normal((12, 3, 4)), rng.standard_normal((5, 3, 4))
    want = MultiVariateGaussian(reg_covar=0, ddof=1).fit(train).p_value(test)
    got = MultiVariateGaussian(reg_covar=0, ddof=ddof).fit(train).p_value(test)
    np.testing.assert_allclose(got, want, rtol=1e-11)


def test_weights_of_one_keep_the_exact_law(rng):
    train, test = rng.standard_normal((12, 3, 4)), rng.standard_normal((5, 3, 4))
    model = MultiVariateGaussian(reg_covar=0).fit(train, sample_weight=np.ones(12))
    assert model.p_value_law == "hotelling"
    want = MultiVariateGaussian(reg_covar=0).fit(train).p_value(test)
    np.testing.assert_allclose(model.p_value(test), want, rtol=1e-11)


def test_the_exact_law_counts_the_rank_of_a_deficient_patch(rng):
    train, test = rng.standard_normal((12, 3, 2)), rng.standard_normal((5, 3, 2))
    train[:, 1, 0] = 4
    train[:, :, 1] = 4
    model = MultiVariateGaussian(reg_covar=0).fit(train)
    assert model.p_value_law == "hotelling"
    want = MultiVariateGaussian(reg_covar=0).fit(train[:, ::2, :1]).p_value(test[:, ::2, :1])
    np.testing.assert_allclose(model.p_value(test)[:, :1], want, rtol=1e-11)
    np.testing.assert_array_equal(model.p_value(test)[:, 1], 1)


def test_the_exact_law_survives_streams_files_and_merges(rng, tmp_path):
    train, test = rng.standard_normal((12, 3, 4)), rng.standard_normal((5, 3, 4))
    want = MultiVariateGaussian(reg_covar=0).fit(train)
    merged = MultiVariateGaussian(reg_covar=0).fit(train[:6])
    merged.merge(MultiVariateGaussian(reg_covar=0).fit(train[6:])).save(tmp_path / "m", resumable=False)
    got = MultiVariateGaussian.load(tmp_path / "m")
    assert got.p_value_law == "hotelling"
    np.testing.assert_allclose(got.p_value(test), want.p_value(test), rtol=1e-11)


INEXACT = {
    "ridge": ({"reg_covar": 0.01}, 12, None),
    "tiny ridge": ({"reg_covar": 1e-300}, 12, None),
    "shrinkage": ({"reg_covar": 0, "shrinkage": 0.1}, 12, None),
    "no shrinkage, but asked for": ({"reg_covar": 0, "shrinkage": 0.0}, 12, None),
    "oas": ({"reg_covar": 0, "shrinkage": "oas"}, 12, None),
    "ledoit_wolf": ({"reg_covar": 0, "shrinkage": "ledoit_wolf"}, 12, None),
    "as many samples as features": ({"reg_covar": 0}, 3, None),
    "fewer samples than features": ({"reg_covar": 0}, 2, None),
    "equal weights that are no ones": ({"reg_covar": 0}, 12, np.full(12, 0.5)),
    "samples that count twice": ({"reg_covar": 0}, 12, np.full(12, 2)),
    "unequal weights": ({"reg_covar": 0}, 12, np.linspace(1, 2, 12)),
    "almost equal weights": ({"reg_covar": 0}, 12, np.linspace(1, 1.01, 12)),
    "a zero weight": ({"reg_covar": 0}, 12, np.arange(12) > 0),
}


@pytest.mark.parametrize("case", list(INEXACT))
def test_an_approximation_never_has_the_name_of_the_exact_law(rng, tmp_path, case):
    options, n, w = INEXACT[case]
    x = frozen(rng.standard_normal((n, 3, 4)))
    model = MultiVariateGaussian(**options).fit(x, sample_weight=w)
    assert model.p_value_law == "chi2"
    want = scipy.stats.chi2.sf(model.mahalanobis(x, squared=True), model.rank)
    np.testing.assert_allclose(model.p_value(x), want, rtol=1e-9)
    model.save(tmp_path / "m", resumable=False)
    assert MultiVariateGaussian.load(tmp_path / "m").p_value_law == "chi2"
    if n > 2:
        assert model.calibrate(x, sample_weight=w).p_value_law == "leave-one-out"
        model.save(tmp_path / "m", resumable=False)
        assert MultiVariateGaussian.load(tmp_path / "m").p_value_law == "leave-one-out"


def test_parts_of_different_weight_have_no_exact_law(rng):
    x = rng.standard_normal((12, 3, 4))
    model = MultiVariateGaussian(reg_covar=0).partial_fit(x[:6]).partial_fit(x[6:], sample_weight=[2.0] * 6)
    assert model.p_value_law == "chi2"
    other = MultiVariateGaussian(reg_covar=0).partial_fit(x[:6])
    other.merge(MultiVariateGaussian(reg_covar=0).partial_fit(x[6:], sample_weight=[2.0] * 6))
    assert other.p_value_law == "chi2"


def test_parameters_and_identities_have_no_exact_law(model):
    assert MultiVariateGaussian.from_parameters(*model).p_value_law == "chi2"
    assert MultiVariateGaussian(3, 2).p_value_law == "chi2"
    np.testing.assert_allclose(
        MultiVariateGaussian(3, 1).p_value(np.ones((1, 3, 1))), [[scipy.stats.chi2.sf(3, 3)]], rtol=1e-6
    )


@pytest.mark.parametrize("n", [9, math.inf])
def test_without_a_dimension_all_distances_are_zero(n):
    np.testing.assert_array_equal(_distributions.sf(np.array([0.0, 0.1]), n, np.array(0)), [1, 0])
    np.testing.assert_array_equal(_distributions.isf(np.array([0.1, 0.9]), n, np.array(0)), [0, 0])


def test_the_law_of_parameters_is_chi_squared_of_any_rank():
    ranks = np.array([0, 1, 3, 50])
    got = [_distributions.Shape.chi2(ranks).sf(squared) for squared in (0.1, 4.0, 30.0)]
    want = [np.where(ranks, scipy.stats.chi2.sf(q, np.maximum(ranks, 1)), 0) for q in (0.1, 4.0, 30.0)]
    np.testing.assert_allclose(got, want, rtol=1e-4)


def test_every_distance_exceeds_what_is_less_than_all():
    """An approximate law may begin above zero."""
    law = _distributions.Shape(*np.array([[10.0], [1.0], [0.2], [0.1]]))
    assert law.sf(0.0) == 1
    assert 0 < law.sf(12.0) < law.sf(9.5) < 1


def test_a_point_is_as_good_as_any_under_chi_squared(rng):
    model = MultiVariateGaussian(reg_covar=0).fit(np.ones((2, 3, 1)))
    assert model.p_value_law == "chi2"
    np.testing.assert_array_equal(model.p_value(np.ones((1, 3, 1))), 1)


@pytest.mark.parametrize(("c", "close"), [(4, 0.04), (30, 0.15)])
def test_ranks_among_leave_one_out_distances_are_close_to_uniform_and_never_fire_too_often(rng, c, close):
    """With a ridge, where no law exists: closer with more samples than features, safe with fewer."""
    model, train, test = simulated(rng, n=20, c=c, patches=4000)
    p = model.calibrate(train).p_value(test)
    assert model.p_value_law == "leave-one-out"
    assert p.min() >= 1 / 21
    for level in (1 / 21, 2 / 21, 5 / 21, 10 / 21, 16 / 21):
        rate = float((p <= level * (1 + 1e-9)).mean())
        noise = SIGMAS * math.sqrt(level * (1 - level) / p.size)
        assert level - close - noise < rate < level + noise


def test_chi_squared_is_no_law_for_few_samples_with_a_ridge(rng):
    model, _, test = simulated(rng, n=20, c=30, patches=1000)
    assert not 0.001 < (model.p_value(test) <= 0.01).mean() < 0.1


def test_a_rank_counts_the_good_distances_that_are_as_large(train, test):
    model = MultiVariateGaussian().fit(train)
    good = model.leave_one_out(train)
    p, d = model.calibrate(train).p_value(test), model.mahalanobis(test)
    for m, h, w in np.ndindex(d.shape):
        assert p[m, h, w] == pytest.approx((1 + (good[:, h, w] >= d[m, h, w]).sum()) / 31, rel=1e-14)
    assert (p >= 1 / 31).all()
    assert model.p_value(test + 1e3).max() == pytest.approx(1 / 31)


def test_a_tie_counts_as_as_large():
    good, d = np.array([[1.0, 2.0, 2.0, 3.0]]), np.array([[0.5, 1.0, 2.0, 2.5, 3.0, 4.0]])
    want = np.array([[5, 5, 4, 2, 2, 1]]) / 5
    np.testing.assert_array_equal(_distributions.rank_among(d, good), want)
