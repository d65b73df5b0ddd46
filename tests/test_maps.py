"""Laws of `anomaly_map`."""

import numpy as np
import pytest
from common import EPS, LAYOUTS, assert_within, frozen, layouts
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from mvgauss import anomaly_map

sizes = st.integers(1, 9)


def bilinear(d, height, width):
    """Interpolate between the centres of the pixels, one output pixel at a time."""
    h, w = d.shape
    out = np.empty((height, width))
    for i, j in np.ndindex(out.shape):
        y = min(max((i + 0.5) * h / height - 0.5, 0), h - 1)
        x = min(max((j + 0.5) * w / width - 0.5, 0), w - 1)
        y0, x0 = int(y), int(x)
        y1, x1 = min(y0 + 1, h - 1), min(x0 + 1, w - 1)
        top = (1 - (x - x0)) * d[y0, x0] + (x - x0) * d[y0, x1]
        bottom = (1 - (x - x0)) * d[y1, x0] + (x - x0) * d[y1, x1]
        out[i, j] = (1 - (y - y0)) * top + (y - y0) * bottom
    return out


@given(sizes, sizes, st.integers(1, 40), st.integers(1, 40), st.integers(0, 99))
def test_maps_are_bilinear_between_the_centres_of_patches(h, w, height, width, seed):
    d = frozen(np.random.default_rng(seed).random((h, w)))
    got = anomaly_map(d, (height, width), sigma=0)
    assert_within(got, bilinear(d, height, width), 64 * max(h, w, height, width) * EPS)


def test_a_map_by_head():
    np.testing.assert_allclose(anomaly_map([[0.0, 4.0]], (1, 4), sigma=0), [[0, 1, 3, 4]], atol=8 * EPS)
    got = anomaly_map([[0.0], [4.0]], (4, 2), sigma=0)
    np.testing.assert_allclose(got, [[0, 0], [1, 1], [3, 3], [4, 4]], atol=8 * EPS)


@pytest.mark.parametrize("sigma", [0.5, 1, 4.0])
def test_smoothing_is_scipys_gaussian_filter(rng, sigma):
    d = frozen(rng.random((5, 6)))
    want = ndimage.gaussian_filter(bilinear(d, 20, 30), sigma)
    assert_within(anomaly_map(d, (20, 30), sigma), want, 1e3 * EPS)


def test_the_default_of_sigma_is_four(rng):
    d = frozen(rng.random((5, 6)))
    np.testing.assert_array_equal(anomaly_map(d, 32), anomaly_map(d, (32, 32), 4.0))
    assert (anomaly_map(d, 32) != anomaly_map(d, 32, 3.9)).any()


def test_a_stack_of_maps_is_a_loop(rng):
    d = frozen(rng.random((2, 3, 4, 5)))
    got = anomaly_map(d, (12, 10))
    assert got.shape == (2, 3, 12, 10)
    for i in np.ndindex(2, 3):
        np.testing.assert_array_equal(got[i], anomaly_map(d[i], (12, 10)))


@pytest.mark.parametrize(
    ("dtype", "want"),
    [(np.float16, "f4"), (np.float32, "f4"), (np.float64, "f8"), (np.int8, "f8"), (np.dtype(">f4"), "f4")],
)
def test_maps_keep_the_precision_of_the_distances(dtype, want):
    got = anomaly_map(np.ones((2, 2), dtype), 8)
    assert got.dtype == want
    np.testing.assert_allclose(got, 1, rtol=1e-6)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_layout_of_distances_changes_nothing(rng, tmp_path, layout):
    d = frozen(rng.random((2, 4, 5)))
    np.testing.assert_array_equal(anomaly_map(layouts(d, tmp_path)[layout], 9), anomaly_map(d, 9))


@pytest.mark.parametrize("shape", [(1, 32), (10, 25), (12, 196), (60, 196), (90, 196), (150, 49)])
def test_distances_of_a_grid_of_one_axis_are_to_be_reshaped(shape):
    with pytest.raises(
        ValueError, match=r"distances: expected shape \(\.\.\., H, W\), got .*reshape \(M, P\)"
    ):
        anomaly_map(np.ones(shape), 112)
    with pytest.raises(ValueError, match="reshape the P patches to H, W"):
        anomaly_map(np.ones(196), 112)
    assert anomaly_map(np.ones((1, *shape)), 112).shape == (1, 112, 112)
