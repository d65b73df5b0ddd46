"""What pictures of images and maps hold."""

import numpy as np
import pytest
from common import frozen
from matplotlib import pyplot as plt
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure

from mvgauss import plot


def outlines(ax):
    return [artist for artist in ax.get_children() if isinstance(artist, ContourSet)]


def test_maps_share_one_scale_in_standard_deviations(pictures, drawn):
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
    assert axes[5].images[0].colorbar.extend == "neither"
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


def test_a_smaller_limit_is_marked_on_the_bar(pictures):
    images, maps, _ = pictures
    figure = plot.anomaly_maps(images, maps, vmax=3)
    assert figure.axes[4].images[0].get_clim() == (0, 3)
    assert figure.axes[5].images[0].colorbar.extend == "max"
    assert plot.anomaly_maps(images, maps, vmax=9).axes[5].images[0].colorbar.extend == "neither"


def test_maps_of_nothing_but_zeros_can_be_drawn(pictures, drawn):
    figure = plot.anomaly_maps(pictures[0], np.zeros((3, 4, 5)), cmap="cividis")
    assert figure.axes[3].images[0].get_clim() == (0, 1)
    assert figure.axes[3].images[0].get_cmap().name == "cividis"
    drawn(figure)


@pytest.mark.parametrize(("n", "columns", "shape"), [(5, 2, (6, 2)), (13, None, (4, 7)), (12, None, (2, 12))])
def test_many_images_go_on_several_rows(n, columns, shape, drawn):
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


# overlay


def test_maps_lie_over_their_images_on_one_scale(pictures, drawn):
    images, maps, _ = pictures
    figure = plot.overlay(images, maps)
    *axes, bar = figure.axes
    assert len(axes) == 3
    for i, ax in enumerate(axes):
        below, above = ax.images
        assert below.get_array().shape == (8, 10)
        np.testing.assert_array_equal(above.get_array(), maps[i])
        assert above.get_extent() == below.get_extent() == [-0.5, 9.5, 7.5, -0.5]
        assert above.norm is axes[0].images[1].norm
        assert above.get_interpolation() == "bilinear"
    assert axes[0].images[1].get_clim() == (0, maps.max())
    assert bar.get_ylabel() == "standard deviations"
    assert not any(outlines(ax) for ax in axes)
    drawn(figure)


def opacities(heat, distances):
    return heat.get_cmap()(heat.norm(np.asarray(distances, float)))[:, 3]


def test_colours_are_those_of_the_map_alone(rng):
    images = frozen(rng.random((1, 8, 10, 3)))
    below, above = plot.overlay(images, np.full((1, 2, 2), 7.0), vmax=10).axes[0].images
    np.testing.assert_allclose(below.get_array(), images[0] @ [0.299, 0.587, 0.114])
    assert below.get_cmap().name == "gray"
    for d in (0, 2.5, 5, 10, 20):
        rgb = above.get_cmap()(above.norm(d))[:3]
        np.testing.assert_allclose(rgb, plt.get_cmap("inferno")(min(d / 10, 1.0))[:3], atol=0.02)


def test_grey_of_whole_numbers_and_of_transparent_images_is_that_of_their_colours():
    images = np.full((2, 4, 4, 4), [200, 200, 200, 255], np.uint8)
    below = plot.overlay(images, np.ones((2, 2, 2))).axes[0].images[0]
    np.testing.assert_allclose(below.get_array(), 200)
    assert below.get_clim() == (0, 255)


def test_maps_are_clear_up_to_half_of_the_limit_and_opaque_from_the_limit_on():
    maps = np.full((1, 2, 2), 40.0)
    heat = plot.overlay(np.zeros((1, 4, 4)), maps, limit=10, alpha=0.6).axes[0].images[1]
    np.testing.assert_allclose(opacities(heat, [0, 3, 5]), 0, atol=1e-3)
    np.testing.assert_allclose(opacities(heat, [7.5, 10, 25, 99]), [0.15, 0.6, 0.6, 0.6], atol=0.01)


def test_without_a_limit_opacity_grows_from_a_quarter_of_the_scale_to_its_end():
    heat = plot.overlay(np.zeros((1, 4, 4)), np.ones((1, 2, 2)), alpha=0.6, vmax=12).axes[0].images[1]
    np.testing.assert_allclose(opacities(heat, [0, 3, 7.5, 12, 20]), [0, 0, 0.15, 0.6, 0.6], atol=0.01)


def test_beyond_a_limit_of_zero_everything_is_opaque():
    heat = plot.overlay(np.zeros((1, 4, 4)), np.ones((1, 2, 2)), limit=0, alpha=0.6).axes[0].images[1]
    np.testing.assert_allclose(opacities(heat, [0, 0.01, 1]), [0, 0.6, 0.6])


@pytest.mark.parametrize("draw", [plot.anomaly_maps, plot.overlay])
def test_the_scale_covers_the_limit_the_same_for_all_good_images(draw):
    image, good, limit = np.zeros((1, 8, 8)), np.full((1, 2, 2), 9.9), 25
    for maps, vmax in ((good, None), (good / 3, None), (good, 9.9)):
        figure = draw(image, maps, limit=limit, vmax=vmax)
        bar = figure.axes[-1]
        assert bar.get_ylim() == (0, 1.25 * limit)
        assert any(list(line.get_ydata()) == [limit, limit] for line in bar.lines)
        assert bar.get_ylabel() == "standard deviations\n(outlined above 25)"
        assert not any(outlines(ax) for ax in figure.axes)
    assert draw(image, 8 * good, limit=limit).axes[-1].get_ylim() == pytest.approx((0, 79.2))
    assert draw(image, 8 * good, limit=limit, vmax=50).axes[-1].get_ylim() == (0, 50)


def test_what_is_over_the_limit_is_outlined_on_the_image_above_its_map():
    maps = np.zeros((2, 4, 5))
    maps[0, 1, 2] = 8
    masks = np.zeros((2, 8, 10))
    masks[1, 2:4, 2:4] = 1
    figure = plot.anomaly_maps(np.zeros((2, 8, 10)), frozen(maps), masks, limit=4)
    assert [len(outlines(ax)) for ax in figure.axes[:4]] == [1, 0, 0, 1]
    (path,) = outlines(figure.axes[0])[0].get_paths()
    np.testing.assert_allclose(path.vertices.min(axis=0), [4.5 - 1, 2.5 - 1])
    np.testing.assert_allclose(path.vertices.max(axis=0), [4.5 + 1, 2.5 + 1])


def test_what_is_over_the_limit_is_outlined_and_marked_on_the_bar():
    maps = np.zeros((3, 4, 5))
    maps[0, 1, 2], maps[1, 1, 2] = 8, 4
    figure = plot.overlay(np.zeros((3, 8, 10)), frozen(maps), limit=4)
    *axes, bar = figure.axes
    assert [len(outlines(ax)) for ax in axes] == [1, 0, 0], "4 is not over 4"
    (path,) = outlines(axes[0])[0].get_paths()
    # halfway between the centres of patches, which are two pixels wide: where bilinear maps are 4
    np.testing.assert_allclose(path.vertices.min(axis=0), [4.5 - 1, 2.5 - 1])
    np.testing.assert_allclose(path.vertices.max(axis=0), [4.5 + 1, 2.5 + 1])
    assert outlines(axes[0])[0].get_edgecolor().tolist() == [[1, 1, 1, 1]]
    assert outlines(axes[0])[0].get_path_effects()
    assert axes[0].get_xlim() == (-0.5, 9.5)
    assert bar.get_ylabel() == "standard deviations\n(outlined above 4)"
    assert any(list(line.get_ydata()) == [4, 4] for line in bar.lines)


@pytest.mark.parametrize("draw", [plot.anomaly_maps, plot.overlay])
def test_titles_and_labels_lie_inside_of_the_figure(draw, drawn):
    for n in (1, 3):
        figure = draw(np.zeros((n, 40, 60)), np.ones((n, 4, 6)), titles=["dg, 12.3"] * n)
        drawn(figure)
        inside = figure.get_tightbbox()
        width, height = figure.get_size_inches()
        assert inside.x0 >= 0
        assert inside.y0 >= 0
        assert inside.x1 <= width
        assert inside.y1 <= height
