"""What plots of quantiles hold."""

import numpy as np
import pytest
from common import frozen
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from mvgauss import MultiVariateGaussian, plot


def test_distances_of_an_exact_law_stand_against_it(rng, drawn):
    x = frozen(rng.normal(size=(40, 3, 4)))
    model = MultiVariateGaussian(reg_covar=0, ddof=0).fit(x[:20])
    d = model.mahalanobis(x[20:])
    ax = plot.qq(d, model, ax=Figure().subplots())
    got_x, got_y = ax.lines[0].get_data()
    np.testing.assert_array_equal(got_y, np.sort(d, axis=None))
    n, p = 20, 3
    above = 1 - (np.arange(80) + 0.5) / 80
    # of the covariance with divisor n - 1, which is n / (n - 1) times that of divisor n
    squared = p * (n + 1) * (n - 1) / (n * (n - p)) * stats.f(p, n - p).isf(above) * n / (n - 1)
    np.testing.assert_allclose(got_x, np.sqrt(squared), rtol=1e-9)
    assert ax.get_xlabel() == "quantiles of Hotelling's distribution, exact\n(standard deviations)"
    assert ax.get_ylabel() == "distances of good images\n(standard deviations)"
    drawn(ax.figure)


@pytest.mark.parametrize("options", [{}, {"reg_covar": 0, "shrinkage": 0.2, "ddof": 0}], ids=str)
def test_a_bound_does_not_go_by_the_name_of_the_exact_law(rng, options):
    x = frozen(rng.normal(size=(40, 3, 4)))
    model = MultiVariateGaussian(**options).fit(x[:20])
    ax = plot.qq(model.mahalanobis(x[20:]), model, ax=Figure().subplots())
    assert "Hotelling's distribution, a bound" in ax.get_xlabel()
    above = 1 - (np.arange(80) + 0.5) / 80
    n, p, rho = 20, 3, options.get("shrinkage", 0)
    squared = p * (n + 1) * (n - options.get("ddof", 1)) / (n * (n - p)) * stats.f(p, n - p).isf(above)
    np.testing.assert_allclose(ax.lines[0].get_xdata(), np.sqrt(squared / (1 - rho)), rtol=1e-9)


def test_given_parameters_are_compared_with_chi_squared(rng):
    model = MultiVariateGaussian.from_parameters(np.zeros((3, 4)), np.stack([np.eye(3)] * 4))
    ax = plot.qq(model.mahalanobis(rng.normal(size=(20, 3, 4))), model, ax=Figure().subplots())
    assert "chi-squared, of a known Gaussian" in ax.get_xlabel()
    above = 1 - (np.arange(80) + 0.5) / 80
    np.testing.assert_allclose(ax.lines[0].get_xdata(), np.sqrt(stats.chi2(3).isf(above)), rtol=1e-9)


def test_a_calibrated_model_is_compared_with_its_own_distances(rng):
    x = frozen(rng.normal(size=(40, 3, 4)))
    model = MultiVariateGaussian().fit(x[:20]).calibrate(x[:20])
    left_out = model.leave_one_out(x[:20])
    ax = plot.qq(left_out, model, ax=Figure().subplots())
    assert ax.get_xlabel().startswith("quantiles of the leave-one-out distances")
    got_x, got_y = ax.lines[0].get_data()
    np.testing.assert_allclose(got_x, got_y, rtol=1e-12)


def test_patches_of_different_rank_make_a_mixture(rng):
    x = rng.normal(size=(60, 3, 4))
    x[:, 1:, 3] = x[:, :, 0] = 0
    model = MultiVariateGaussian(reg_covar=0, ddof=0).fit(frozen(x[:30]))
    ranks = [0, 3, 3, 1]
    assert model.rank.tolist() == ranks
    ax = plot.qq(model.mahalanobis(x[30:]), model, ax=Figure().subplots())
    n = 30
    squared = ax.lines[0].get_xdata() ** 2 * (n - 1) / n
    tails = [stats.f(p, n - p).sf(squared * n * (n - p) / (p * (n + 1) * (n - 1))) for p in ranks[1:]]
    want = np.minimum(1 - (np.arange(120) + 0.5) / 120, 0.75)  # the first patch is at zero
    np.testing.assert_allclose(np.sum(tails, axis=0) / 4, want, atol=1e-6)


def test_good_images_follow_the_line(rng):
    x = rng.normal(size=(400, 4, 50))
    model = MultiVariateGaussian(reg_covar=0).fit(frozen(x[:200]))
    got_x, got_y = plot.qq(model.mahalanobis(x[200:]), model, ax=Figure().subplots()).lines[0].get_data()
    middle = slice(100, -100)
    np.testing.assert_allclose(got_y[middle], got_x[middle], rtol=0.1)


def test_many_distances_are_thinned_but_not_at_the_end(rng):
    x = rng.normal(size=(220, 2, 100))
    model = MultiVariateGaussian(reg_covar=0).fit(frozen(x[:20]))
    d = model.mahalanobis(x[20:])
    ax = plot.qq(d, model, ax=Figure().subplots())
    _, y = ax.lines[0].get_data()
    assert 500 < len(y) <= 1000
    assert np.isin(np.sort(d, axis=None)[[0, *range(-10, 0)]], y).all()
    assert ax.lines[0].get_label() == "20,000 distances"


def test_the_diagonal_is_drawn_and_the_axes_begin_at_zero(rng):
    x = frozen(rng.normal(size=(40, 3, 4)))
    model = MultiVariateGaussian().fit(x[:20])
    ax = plot.qq(model.mahalanobis(x[20:]), model, ax=Figure().subplots())
    assert ax.lines[1].get_slope() == 1
    assert ax.lines[1].get_xy1() == (0, 0)
    assert ax.get_xlim()[0] == ax.get_ylim()[0] == 0
    assert ax.get_ylim()[1] > ax.lines[0].get_ydata().max()


def test_a_model_from_parameters_takes_distances_of_its_patches(rng):
    model = MultiVariateGaussian.from_parameters(np.zeros((2, 6)), np.broadcast_to(np.eye(2), (6, 2, 2)))
    d = model.mahalanobis(rng.normal(size=(5, 2, 2, 3)))
    assert isinstance(plot.qq(d, model, ax=Figure().subplots()), Axes)
