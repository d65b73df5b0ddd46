"""What ellipses hold."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy import stats

from mvgauss import plot


def test_an_ellipse_is_a_line_of_equal_distance(rng, drawn):
    a = rng.normal(size=(2, 2))
    sigma, mu = a @ a.T, rng.normal(size=2)
    ax = Figure().subplots()
    levels = [0.5, 0.9, 0.99]
    patches = plot.ellipse(mu, sigma, level=levels, ax=ax)
    for patch, level in zip(patches, levels, strict=True):
        corners = patch.get_path().vertices[::3]  # on the curve; the others pull it
        points = patch.get_patch_transform().transform(corners) - mu
        squared = np.einsum("ni,ij,nj->n", points, np.linalg.inv(sigma), points)
        np.testing.assert_allclose(squared, stats.chi2(2).ppf(level), rtol=1e-5)
    assert [patch.get_label() for patch in patches] == ["50 %", "90 %", "99 %"]
    assert len({patch.get_linestyle() for patch in patches}) == 3, "told apart without colours"
    assert patches == list(ax.patches)
    drawn(ax.figure)


def test_the_axes_make_room_for_an_ellipse():
    ax = Figure().subplots()
    plot.ellipse([10, 20], np.diag([9, 4]), ax=ax)
    r = np.sqrt(stats.chi2(2).ppf(0.95))
    assert ax.get_xlim()[0] < 10 - 3 * r < 10 + 3 * r < ax.get_xlim()[1]
    assert ax.get_ylim()[0] < 20 - 2 * r < 20 + 2 * r < ax.get_ylim()[1]


def test_a_style_is_passed_on():
    (patch,) = plot.ellipse([0, 0], np.eye(2), ax=Figure().subplots(), edgecolor="red", linestyle=":")
    assert patch.get_edgecolor() == (1, 0, 0, 1)
    assert patch.get_linestyle() == ":"
    assert not patch.get_fill()
    (patch,) = plot.ellipse([0, 0], np.eye(2), ax=Figure().subplots(), fill=True, facecolor="0.5")
    assert patch.get_fill()


def test_a_singular_covariance_is_drawn_as_a_line():
    (patch,) = plot.ellipse([0, 0], [[1, 1], [1, 1]], ax=Figure().subplots())
    assert min(patch.width, patch.height) == pytest.approx(0, abs=1e-7)
    assert max(patch.width, patch.height) == pytest.approx(2 * np.sqrt(2 * stats.chi2(2).ppf(0.95)))
