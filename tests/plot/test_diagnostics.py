"""What pictures of diagnostics hold."""

import numpy as np
import pytest
from common import frozen
from matplotlib import pyplot as plt
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from mvgauss import MultiVariateGaussian, plot


def test_diagnostics_are_drawn_over_the_grid(rng, drawn):
    x = frozen(rng.normal(size=(12, 3, 4, 5)))
    model = MultiVariateGaussian(shrinkage="oas").fit(x)
    maps = model.diagnostics()
    axes = plot.diagnostics(model)
    titles = ["rank", "condition number", "effective samples", "shrinkage intensity"]
    assert [ax.get_title() for ax in axes] == titles
    for ax, name in ((axes[1], "condition"), (axes[3], "shrinkage")):
        np.testing.assert_array_equal(ax.images[0].get_array(), maps[name])
        assert ax.images[0].get_cmap().name == "viridis"
    assert all(axes[i].images[0].colorbar for i in (1, 3))
    assert axes[1].get_xlabel() == ""
    drawn(axes[0].figure)


def test_singular_patches_are_left_hatched(rng, drawn):
    x = rng.normal(size=(12, 3, 4, 5))
    x[:, 0, 1] = 0
    axes = plot.diagnostics(MultiVariateGaussian(reg_covar=0).fit(frozen(x)))
    mask = np.ma.getmaskarray(axes[1].images[0].get_array())
    np.testing.assert_array_equal(mask, np.arange(20).reshape(4, 5) // 5 == 1)
    assert axes[1].patch.get_hatch()
    assert axes[1].get_xlabel() == "singular in 5 of 20 patches"
    assert sorted(axes[0].images[0].colorbar.get_ticks()) == [2, 3]
    drawn(axes[0].figure)


@pytest.mark.parametrize("grid", [(), (1,), (5,), (2, 3), (2, 3, 4)])
def test_what_all_patches_agree_on_is_a_number(rng, drawn, grid):
    x = rng.normal(size=(3, 4)).reshape(3, 4, *[1] * len(grid)) * np.ones(grid)
    axes = plot.diagnostics(MultiVariateGaussian(reg_covar=0).fit(frozen(x)))
    assert [ax.texts[0].get_text() for ax in axes] == ["2", "\N{INFINITY}", "3", "0"]
    assert not any(ax.axison or ax.images or ax.lines for ax in axes)
    drawn(axes[0].figure)


def test_rounding_is_no_pattern(rng, monkeypatch):
    model = MultiVariateGaussian().fit(frozen(rng.normal(size=(9, 2, 3, 4))))
    maps = model.diagnostics()
    for spread, texts in ((1e-7, 1), (1e-5, 0)):
        condition = 5 * (1 + spread * np.arange(12).reshape(3, 4) / 11)
        monkeypatch.setattr(model, "diagnostics", lambda c=condition: {**maps, "condition": c})
        assert len(plot.diagnostics(model)[1].texts) == texts


def test_pictures_stand_two_in_a_row(rng, drawn):
    x = frozen(rng.normal(size=(12, 3, 4, 5)))
    axes = plot.diagnostics(MultiVariateGaussian(shrinkage="oas").fit(x))
    drawn(axes[0].figure)
    rank, condition, effective, shrinkage = (ax.get_position() for ax in axes)
    assert rank.y0 == effective.y0 > condition.y1
    assert condition.y0 == shrinkage.y0
    assert condition.x1 < shrinkage.x0
    assert axes[0].figure.get_size_inches()[0] <= 7, "titles can be read where it is as wide as a phone"


def test_conditions_of_several_magnitudes_are_on_a_log_scale(rng):
    x = rng.normal(size=(20, 2, 1, 4)) * [[[1, 1, 1, 1]], [[1, 10, 100, 1000]]]
    axes = plot.diagnostics(MultiVariateGaussian(reg_covar=0).fit(frozen(x.reshape(20, 2, 1, 4))))
    assert isinstance(axes[1].images[0].norm, LogNorm)
    flat = plot.diagnostics(MultiVariateGaussian(reg_covar=0).fit(frozen(x.reshape(20, 2, 4))))
    assert flat[1].get_yscale() == "log"


def test_a_grid_of_one_axis_is_drawn_as_points(rng, drawn):
    model = MultiVariateGaussian().fit(frozen(rng.normal(size=(9, 2, 5))))
    axes = plot.diagnostics(model)
    want = model.diagnostics()["condition"]
    np.testing.assert_array_equal(axes[1].lines[0].get_ydata(), want)
    np.testing.assert_array_equal(axes[1].lines[0].get_xdata(), np.arange(len(want)))
    assert axes[1].get_xlabel() == "patch"
    assert axes[1].get_ylim()[0] == 0
    drawn(axes[0].figure)


def test_grids_of_more_axes_are_drawn_one_below_another(rng, drawn):
    model = MultiVariateGaussian().fit(frozen(rng.normal(size=(9, 2, 3, 4, 5))))
    axes = plot.diagnostics(model)
    got = axes[1].images[0].get_array()
    np.testing.assert_array_equal(got, model.diagnostics()["condition"].reshape(12, 5))
    assert [line.get_ydata()[0] for line in axes[1].lines] == [3.5, 7.5]
    drawn(axes[0].figure)


def test_given_axes_are_drawn_into(rng):
    model = MultiVariateGaussian().fit(frozen(rng.normal(size=(9, 2, 3, 4))))
    given = Figure().subplots(2, 2)
    axes = plot.diagnostics(model, axes=given)
    assert list(axes) == list(given.ravel())
    assert not plt.get_fignums()
