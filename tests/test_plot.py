"""What the pictures hold: their artists, data, labels and limits; and that they leave nothing behind."""

import io
import subprocess
import sys

import numpy as np
import pytest
from common import frozen
from scipy import stats

from mvgauss import MultiVariateGaussian

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")

from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.colors import LogNorm  # noqa: E402
from matplotlib.contour import ContourSet  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

from mvgauss import plot  # noqa: E402


@pytest.fixture(autouse=True)
def nothing_is_left_behind():
    """No setting changes, and every figure that is open was opened for the test."""
    before = dict(matplotlib.rcParams)
    yield
    assert dict(matplotlib.rcParams) == before
    plt.close("all")


def drawn(figure):
    """Return the pixels of a figure: it can be drawn, and is not blank."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=40)
    pixels = plt.imread(io.BytesIO(file.getvalue()))[..., :3]
    assert np.ptp(pixels) > 0.5
    return pixels


def outlines(ax):
    return [artist for artist in ax.get_children() if isinstance(artist, ContourSet)]


@pytest.fixture
def pictures(rng):
    """Three images of 8 by 10 pixels in colour, their maps of 4 by 5, and masks."""
    masks = np.zeros((3, 8, 10), bool)
    masks[1, 2:5, 3:7] = True
    return frozen(rng.random((3, 8, 10, 3))), frozen(rng.random((3, 4, 5)) * 7), frozen(masks)


# anomaly_maps


def test_maps_share_one_scale_in_standard_deviations(pictures):
    images, maps, _ = pictures
    figure = plot.anomaly_maps(images, maps)
    *axes, bar = figure.axes
    assert len(axes) == 6
    for i in range(3):
        np.testing.assert_allclose(axes[i].images[0].get_array(), images[i])
        np.testing.assert_array_equal(axes[3 + i].images[0].get_array(), maps[i])
        assert axes[3 + i].images[0].norm is axes[3].images[0].norm
        assert axes[3 + i].images[0].get_cmap().name == "inferno"
    assert axes[3].images[0].get_clim() == (0, maps.max())
    assert bar.get_ylabel() == "standard deviations"
    assert bar.get_ylim() == (0, maps.max())
    drawn(figure)


def test_grey_and_whole_numbers_are_drawn_as_they_are(rng):
    images = frozen(rng.integers(0, 256, (2, 6, 6)), np.uint8)
    figure = plot.anomaly_maps(images, np.ones((2, 3, 3)))
    picture = figure.axes[0].images[0]
    np.testing.assert_array_equal(picture.get_array(), images[0])
    assert picture.get_clim() == (0, 255)
    assert picture.get_cmap().name == "gray"


def test_only_defects_are_outlined_where_they_are(pictures):
    images, maps, masks = pictures
    figure = plot.anomaly_maps(images, maps, masks)
    assert [len(outlines(ax)) for ax in figure.axes[:6]] == [0, 0, 0, 0, 1, 0]
    ax = figure.axes[4]
    (path,) = outlines(ax)[0].get_paths()
    # the mask has two pixels for one of the map; its outline runs half a step beyond their centres
    low, high = path.vertices.min(axis=0), path.vertices.max(axis=0)
    np.testing.assert_allclose(low, [3 / 2 - 0.5, 2 / 2 - 0.5])
    np.testing.assert_allclose(high, [7 / 2 - 0.5, 5 / 2 - 0.5])
    assert ax.get_xlim() == (-0.5, 4.5)
    assert ax.get_ylim() == (3.5, -0.5)


def test_outlines_of_defects_at_the_edge_are_closed(pictures):
    images, maps, _ = pictures
    figure = plot.anomaly_maps(images, maps, np.ones((3, 8, 10)))
    for ax in figure.axes[3:6]:
        (path,) = outlines(ax)[0].get_paths()
        np.testing.assert_allclose(path.vertices[0], path.vertices[-1])
        np.testing.assert_allclose(path.vertices.max(axis=0), [4.5, 3.5])


def test_outlines_can_be_seen_on_every_colour(pictures):
    line = outlines(plot.anomaly_maps(*pictures).axes[4])[0]
    assert line.get_edgecolor().tolist() == [[1, 1, 1, 1]]
    assert line.get_path_effects()


def test_titles_stand_above_the_images(pictures):
    images, maps, _ = pictures
    figure = plot.anomaly_maps(images, maps, titles=["a", "b", "c"])
    assert [ax.get_title() for ax in figure.axes[:6]] == ["a", "b", "c", "", "", ""]


def test_a_smaller_limit_is_marked_on_the_bar(pictures):
    images, maps, _ = pictures
    figure = plot.anomaly_maps(images, maps, vmax=3)
    assert figure.axes[4].images[0].get_clim() == (0, 3)
    assert figure.axes[5].images[0].colorbar.extend == "max"
    assert plot.anomaly_maps(images, maps, vmax=9).axes[5].images[0].colorbar.extend == "neither"


def test_maps_of_nothing_but_zeros_can_be_drawn(pictures):
    figure = plot.anomaly_maps(pictures[0], np.zeros((3, 4, 5)), cmap="cividis")
    assert figure.axes[3].images[0].get_clim() == (0, 1)
    assert figure.axes[3].images[0].get_cmap().name == "cividis"
    drawn(figure)


@pytest.mark.parametrize(("n", "columns", "shape"), [(5, 2, (6, 2)), (13, None, (4, 7)), (12, None, (2, 12))])
def test_many_images_go_on_several_rows(n, columns, shape):
    maps = np.arange(1.0, n + 1)[:, None, None] * np.ones((2, 2))
    figure = plot.anomaly_maps(np.zeros((n, 4, 4)), maps, columns=columns)
    axes = np.reshape(figure.axes[:-1], shape)
    seen = [ax for row in axes[1::2] for ax in row if ax.get_visible()]
    assert [ax.images[0].get_array()[0, 0] for ax in seen] == list(range(1, n + 1))
    assert sum(ax.get_visible() for ax in axes.flat) == 2 * n
    drawn(figure)


def test_a_given_figure_is_drawn_into(pictures):
    figure = Figure(figsize=(3, 4))
    assert plot.anomaly_maps(pictures[0], pictures[1], fig=figure) is figure
    assert tuple(figure.get_size_inches()) == (3, 4)
    part = Figure(layout="constrained").subfigures(1, 2)[0]
    assert plot.anomaly_maps(pictures[0], pictures[1], fig=part) is part
    assert not plt.get_fignums()


def test_without_a_figure_pyplot_gets_one_and_only_one(pictures):
    figure = plot.anomaly_maps(pictures[0], pictures[1])
    assert plt.get_fignums() == [figure.number]


# diagnostics


def test_diagnostics_are_drawn_over_the_grid(rng):
    x = frozen(rng.normal(size=(12, 3, 4, 5)))
    model = MultiVariateGaussian(shrinkage="oas").fit(x)
    maps = model.diagnostics(x)
    axes = plot.diagnostics(model, x)
    titles = ["rank", "condition number", "effective samples", "shrinkage intensity"]
    assert [ax.get_title() for ax in axes] == [*titles, "kurtosis / that of a Gaussian"]
    names = ("rank", "condition", "effective_samples", "shrinkage")
    for ax, name in zip(axes, names, strict=False):
        np.testing.assert_array_equal(ax.images[0].get_array(), maps[name])
        assert ax.images[0].get_cmap().name == "viridis"
    want = maps["kurtosis"] / maps["kurtosis_expected"]
    np.testing.assert_allclose(axes[4].images[0].get_array(), want)
    assert [ax.images[0].colorbar is not None for ax in axes] == [False, True, False, True, True]
    assert axes[0].get_xlabel() == "3 everywhere"
    assert axes[2].get_xlabel() == "12 everywhere"
    assert axes[1].get_xlabel() == ""
    drawn(axes[0].figure)


def test_singular_patches_are_left_hatched(rng):
    x = rng.normal(size=(12, 3, 4, 5))
    x[:, 0, 1] = 0
    axes = plot.diagnostics(MultiVariateGaussian(reg_covar=0).fit(frozen(x)))
    mask = np.ma.getmaskarray(axes[1].images[0].get_array())
    np.testing.assert_array_equal(mask, np.arange(20).reshape(4, 5) // 5 == 1)
    assert axes[1].patch.get_hatch()
    assert axes[1].get_xlabel() == "singular in 5 of 20 patches"
    assert sorted(axes[0].images[0].colorbar.get_ticks()) == [2, 3]
    drawn(axes[0].figure)


def test_models_singular_everywhere_can_be_drawn(rng):
    x = frozen(rng.normal(size=(3, 4, 2, 3)))
    axes = plot.diagnostics(MultiVariateGaussian(reg_covar=0).fit(x))
    assert axes[1].get_xlabel() == "singular in 6 of 6 patches"
    drawn(axes[0].figure)


def test_conditions_of_several_magnitudes_are_on_a_log_scale(rng):
    x = rng.normal(size=(20, 2, 1, 4)) * [[[1, 1, 1, 1]], [[1, 10, 100, 1000]]]
    axes = plot.diagnostics(MultiVariateGaussian(reg_covar=0).fit(frozen(x.reshape(20, 2, 1, 4))))
    assert isinstance(axes[1].images[0].norm, LogNorm)
    flat = plot.diagnostics(MultiVariateGaussian(reg_covar=0).fit(frozen(x.reshape(20, 2, 4))))
    assert flat[1].get_yscale() == "log"


@pytest.mark.parametrize("grid", [(), (5,)])
def test_grids_of_fewer_axes_are_drawn_as_points(rng, grid):
    model = MultiVariateGaussian().fit(frozen(rng.normal(size=(9, 2, *grid))))
    axes = plot.diagnostics(model)
    want = np.atleast_1d(model.diagnostics()["condition"])
    np.testing.assert_array_equal(axes[1].lines[0].get_ydata(), want)
    np.testing.assert_array_equal(axes[1].lines[0].get_xdata(), np.arange(len(want)))
    assert axes[1].get_xlabel() == "patch"
    assert axes[0].get_ylim()[0] == 0
    drawn(axes[0].figure)


def test_grids_of_more_axes_are_drawn_one_below_another(rng):
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


# ellipse


def test_an_ellipse_is_a_line_of_equal_distance(rng):
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


def test_without_axes_the_current_ones_are_drawn_into():
    ax = plt.figure().subplots()
    plot.ellipse([0, 0], np.eye(2))
    assert len(ax.patches) == 1
    assert len(plt.get_fignums()) == 1


# qq


def test_distances_of_an_exact_law_stand_against_it(rng):
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
    assert ax.get_xlabel() == "quantiles of Hotelling's law, exact\n(standard deviations)"
    assert ax.get_ylabel() == "distances of good images\n(standard deviations)"
    drawn(ax.figure)


def test_an_approximation_does_not_go_by_the_name_of_the_exact_law(rng):
    x = frozen(rng.normal(size=(40, 3, 4)))
    model = MultiVariateGaussian().fit(x[:20])
    assert model.p_value_law == "chi2"
    ax = plot.qq(model.mahalanobis(x[20:]), model, ax=Figure().subplots())
    label = ax.get_xlabel()
    assert "chi-squared, an approximation" in label
    assert "exact" not in label
    assert "Hotelling" not in label
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
    x[:, 1:, 3] = 0
    model = MultiVariateGaussian(reg_covar=0, ddof=0).fit(frozen(x[:30]))
    ranks = [3, 3, 3, 1]
    assert model.rank.tolist() == ranks
    ax = plot.qq(model.mahalanobis(x[30:]), model, ax=Figure().subplots())
    n = 30
    squared = ax.lines[0].get_xdata() ** 2 * (n - 1) / n
    tails = [stats.f(p, n - p).sf(squared * n * (n - p) / (p * (n + 1) * (n - 1))) for p in ranks]
    np.testing.assert_allclose(np.mean(tails, axis=0), 1 - (np.arange(120) + 0.5) / 120, atol=1e-9)


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


# Errors


X = frozen(np.random.default_rng(0).normal(size=(9, 2, 3, 4)))
MODEL = MultiVariateGaussian().fit(X)
IMAGES, MAPS = np.zeros((2, 6, 6)), np.ones((2, 3, 3))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: plot.anomaly_maps(np.zeros((2, 3, 6, 6)), MAPS),
            ValueError,
            r"images: .*transpose\(0, 2, 3, 1",
        ),
        (lambda: plot.anomaly_maps(np.zeros((6, 6)), MAPS), ValueError, r"images: expected shape .*\(6, 6\)"),
        (
            lambda: plot.anomaly_maps(IMAGES - 2.1, MAPS),
            ValueError,
            "images: expected floats from 0 to 1.*undo",
        ),
        (
            lambda: plot.anomaly_maps(np.full((2, 6, 6), 256), MAPS),
            ValueError,
            "images: expected whole numbers from 0 to 255, got 256",
        ),
        (
            lambda: plot.anomaly_maps(IMAGES, MAPS[0]),
            ValueError,
            r"maps: expected shape \(2, height, width\)",
        ),
        (lambda: plot.anomaly_maps(IMAGES, MAPS[:1]), ValueError, r"maps: .*2 images, got shape \(1, 3, 3\)"),
        (lambda: plot.anomaly_maps(IMAGES, MAPS * np.nan), ValueError, r"maps: .*NaN at index \(0, 0, 0\)"),
        (lambda: plot.anomaly_maps(IMAGES, MAPS, MAPS[0]), ValueError, r"masks: expected shape \(2,"),
        (lambda: plot.anomaly_maps(IMAGES, MAPS, titles=["a"]), ValueError, "titles: expected 2 titles"),
        (lambda: plot.anomaly_maps(IMAGES, MAPS, titles="ab"), ValueError, "titles: expected 2 titles"),
        (
            lambda: plot.anomaly_maps(IMAGES, MAPS, vmax=0),
            ValueError,
            "vmax: expected a finite real number > 0",
        ),
        (lambda: plot.anomaly_maps(IMAGES, MAPS, columns=0), ValueError, "columns: expected an integer >= 1"),
        (
            lambda: plot.anomaly_maps(IMAGES, MAPS, fig=3),
            TypeError,
            "fig: expected a Figure of matplotlib, got int",
        ),
        (
            lambda: plot.anomaly_maps(IMAGES, MAPS, cmap="no such"),
            ValueError,
            "cmap: expected the name .*'no such'",
        ),
        (lambda: plot.diagnostics("model"), TypeError, "model: expected a MultiVariateGaussian, got str"),
        (lambda: plot.diagnostics(MultiVariateGaussian()), ValueError, "not fitted yet"),
        (lambda: plot.diagnostics(MODEL, axes=Figure().subplots(1, 3)), ValueError, "axes: expected 4 Axes"),
        (lambda: plot.diagnostics(MODEL, X[:3]), ValueError, "embedding: expected the 9 samples"),
        (
            lambda: plot.ellipse([0, 0, 0], np.eye(2)),
            ValueError,
            r"mean: expected shape \(2,\), got shape \(3,\)",
        ),
        (lambda: plot.ellipse([0, 0], np.eye(3)), ValueError, r"covariance: expected shape \(2, 2\)"),
        (
            lambda: plot.ellipse([0, 0], [[1, 2], [3, 4]]),
            ValueError,
            "covariance: expected a symmetric matrix",
        ),
        (
            lambda: plot.ellipse([0, 0], [[1, 2], [2, 1]]),
            ValueError,
            "covariance: .*semi-definite.*eigenvalue -1",
        ),
        (
            lambda: plot.ellipse([0, 0], np.eye(2), level=1),
            ValueError,
            "level: expected .*between 0 and 1, got 1",
        ),
        (
            lambda: plot.ellipse([0, 0], np.eye(2), level="95"),
            TypeError,
            "level: expected a finite real number",
        ),
        (lambda: plot.ellipse([0, 0], np.eye(2), level=[0.5, 0]), ValueError, "level: expected"),
        (lambda: plot.ellipse([0, 0], np.eye(2), ax=Figure()), TypeError, "ax: expected Axes .*got Figure"),
        (
            lambda: plot.qq(np.ones((2, 3, 5)), MODEL),
            ValueError,
            r"distances: expected shape \(M, 3, 4\), got",
        ),
        (lambda: plot.qq(np.zeros((0, 3, 4)), MODEL), ValueError, "distances: expected shape"),
        (lambda: plot.qq(-np.ones((2, 3, 4)), MODEL), ValueError, "distances: expected numbers >= 0, got -1"),
        (lambda: plot.qq(np.ones((2, 3, 4)), None), TypeError, "model: expected a MultiVariateGaussian"),
    ],
)
def test_errors_name_the_argument_and_leave_no_figure(call, error, message):
    with pytest.raises(error, match=message):
        call()
    assert not plt.get_fignums()


def test_without_matplotlib_the_error_says_what_to_install():
    program = "import sys; sys.modules['matplotlib'] = None; import mvgauss.plot"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode
    assert "pip install 'mvgauss[plot]'" in done.stderr
