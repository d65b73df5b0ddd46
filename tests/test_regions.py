"""Regions of maps and AUPRO, in `docs/howto/regions.py`: against a loop of thresholds, and on plain cases."""

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest
from common import EPS, frozen, seeds
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

sys.path.append(str(Path(__file__).resolve().parents[1] / "docs" / "howto"))
from regions import aupro, regions, score_of_area

LIMITS = [0.05, 0.3, 1.0]


def by_thresholds(maps, masks, limit):
    """Compute AUPRO as it is defined: a mean over regions for each threshold, and a loop over all of them."""
    shapes = []
    for k, mask in enumerate(masks):
        labels, n = ndimage.label(mask, np.ones((3, 3)))
        shapes += [(k, labels == i) for i in range(1, n + 1)]
    curve = [(0.0, 0.0)]
    for threshold in np.unique(maps)[::-1]:
        above = maps >= threshold
        rate = above[~masks].mean()
        curve.append((rate, np.mean([above[k][shape].mean() for k, shape in shapes])))
    x, y = np.array(curve).T
    area = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(curve):
        if x0 >= limit or x1 == x0:
            continue
        end = min(x1, limit)
        at_end = y0 + (y1 - y0) * (end - x0) / (x1 - x0)
        area += (end - x0) * (y0 + at_end) / 2
    assert x[-1] == y[-1] == 1
    return area / limit


def drawn(seed, ties):
    """Draw maps of images with some defects, touching at corners too, and one without any."""
    rng = np.random.default_rng(seed)
    masks = rng.random((3, 7, 9)) < 0.25
    masks[0] = False
    masks[1, 2, 2] = True
    maps = rng.standard_normal(masks.shape) + masks
    return frozen(np.round(maps, 0) if ties else maps), frozen(masks)


@given(seeds, st.booleans(), st.sampled_from(LIMITS))
def test_it_is_the_area_under_the_thresholds_one_by_one(seed, ties, limit):
    maps, masks = drawn(seed, ties)
    assert aupro(maps, masks, limit) == pytest.approx(by_thresholds(maps, masks, limit), abs=1000 * EPS)


@pytest.mark.parametrize("limit", LIMITS)
def test_a_perfect_map_has_one_and_a_constant_one_half_of_the_limit(limit):
    _, masks = drawn(0, False)
    assert aupro(masks.astype(float), masks, limit) == pytest.approx(1, abs=10 * EPS)
    assert aupro(np.zeros(masks.shape), masks, limit) == pytest.approx(limit / 2, abs=10 * EPS)


@given(seeds, st.sampled_from(LIMITS))
def test_only_the_order_of_values_counts(seed, limit):
    maps, masks = drawn(seed, False)
    assert aupro(np.exp(maps), masks, limit) == aupro(maps, masks, limit)


def test_a_small_region_counts_as_much_as_a_large_one():
    masks = np.zeros((2, 10, 10), bool)
    masks[0, :5, :5] = masks[1, 9, 9] = True
    found_large, found_small = np.zeros(masks.shape), np.zeros(masks.shape)
    found_large[0, :5, :5] = found_small[1, 9, 9] = 1
    assert aupro(found_large, masks) == pytest.approx(aupro(found_small, masks), abs=10 * EPS)


def test_the_area_is_divided_by_the_limit_and_not_by_the_last_rate_below_it():
    """Half of a region is found without a false alarm, the other half where all pixels are alarms."""
    masks = np.zeros((1, 10, 10), bool)
    masks[0, 0, :2] = True
    maps = np.zeros(masks.shape)
    maps[0, 0, 0] = 2
    maps[0, 5, 5] = 1  # one false alarm of 98 pixels
    rate = 1 / 98
    slope = 0.5 / (1 - rate)
    want = (0.3 * 0.5 + (0.3 - rate) ** 2 * slope / 2) / 0.3
    assert aupro(maps, masks, 0.3) == pytest.approx(want, abs=100 * EPS)


@pytest.mark.parametrize(
    ("masks", "limit", "message"),
    [
        (np.zeros((1, 4, 4)), 0.3, "with and without"),
        (np.ones((1, 4, 4)), 0.3, "with and without"),
        (np.ones((1, 4, 5)), 0.3, "shape"),
        (np.eye(4)[None], 0.0, "limit"),
        (np.eye(4)[None], 1.5, "limit"),
    ],
)
def test_what_has_no_area_is_refused(masks, limit, message):
    with pytest.raises(ValueError, match=message):
        aupro(np.zeros((1, 4, 4)), masks, limit)


def test_regions_have_their_boxes_areas_and_largest_values():
    heat = np.zeros((6, 8))
    heat[1:3, 1:3] = 5
    heat[3, 3] = 9  # touches at a corner
    heat[0, 7] = 20
    heat[5, 0:2] = 3
    everything = [((0, 7, 1, 8), 1, 20.0), ((1, 1, 4, 4), 5, 9.0), ((5, 0, 6, 2), 2, 3.0)]
    assert regions(frozen(heat), 2.5) == everything
    assert regions(heat, 2.5, area=2) == everything[1:]
    assert regions(heat, 3) == everything[:2]  # above, not at
    assert regions(heat, 20) == []


@given(seeds, st.integers(1, 20))
def test_a_region_of_an_area_needs_a_score_of_that_area_above_the_limit(seed, area):
    maps, _ = drawn(seed, True)
    for limit in (-1.0, 0.0, 1.0):
        for heat, score in zip(maps, score_of_area(maps, area), strict=True):
            assert score > limit or not regions(heat, limit, area)
