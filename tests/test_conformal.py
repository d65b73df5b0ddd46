"""Limits and p-values from the scores of good images: of any score, and of the largest distance."""

import math
from fractions import Fraction

import numpy as np
import pytest
from common import frozen, seeds
from hypothesis import given
from hypothesis import strategies as st

from mvgauss import MultiVariateGaussian, conformal_p_value, conformal_threshold

#: Scores with ties and infinitely many digits alike.
scores_lists = st.lists(st.integers(-3, 3) | st.floats(-1e3, 1e3), min_size=1, max_size=30)


@given(scores_lists, st.integers(1, 99))
def test_a_limit_is_the_score_of_its_rank(scores, percent):
    n, rate = len(scores), Fraction(percent, 100)
    k = math.ceil((n + 1) * (1 - rate))
    if k > n:
        with pytest.raises(ValueError, match="false_positive_rate: expected at least 1 / "):
            conformal_threshold(frozen(scores, float), float(rate))
    else:
        limit = conformal_threshold(frozen(scores, float), float(rate))
        assert isinstance(limit, float)
        assert limit == sorted(scores)[k - 1]


@given(scores_lists, st.lists(st.integers(-3, 3) | st.floats(-1e3, 1e3), max_size=5))
def test_a_p_value_counts_the_good_scores_that_are_at_least_as_large(good, new):
    p = conformal_p_value(frozen(new, float), frozen(good, float))
    assert p.tolist() == [(1 + sum(g >= s for g in good)) / (len(good) + 1) for s in new]


@given(scores_lists, st.integers(1, 99))
def test_a_limit_and_p_values_decide_alike(good, percent):
    n, rate = len(good), percent / 100
    if (n + 1) * percent < 100:
        return
    limit, probes = conformal_threshold(good, rate), [*good, min(good) - 1, max(good) + 1]
    for s, p in zip(probes, conformal_p_value(probes, good), strict=True):
        assert (s > limit) == (round(p * (n + 1)) * 100 <= (n + 1) * percent)


@given(seeds, st.integers(2, 12), st.booleans())
def test_whichever_good_score_comes_last_the_rate_holds(seed, n, ties):
    """Of all orders of n + 1 scores, exactly: the guarantee, with ties too."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 3, n + 1) if ties else rng.standard_normal(n + 1)
    for k in range(1, n + 1):
        rate = k / (n + 1)
        above, small = 0, 0
        for i in range(n + 1):
            others = np.delete(scores, i)
            above += scores[i] > conformal_threshold(others, rate)
            small += conformal_p_value(scores[i], others) <= rate + 1e-12
        assert above <= k
        assert small <= k
        assert ties or above == small == k


BAD = [
    (lambda: conformal_threshold([[1.0, 2.0]], 0.5), ValueError, r"scores: expected one .*shape \(1, 2\)"),
    (lambda: conformal_threshold([], 0.5), ValueError, "scores: expected one score"),
    (lambda: conformal_threshold([1.0, math.nan], 0.5), ValueError, "scores: expected finite .*NaN at index"),
    (lambda: conformal_threshold([1.0, 2.0], 5), ValueError, "5 % is 0.05"),
    (lambda: conformal_threshold([1.0, 2.0], 0), ValueError, "false_positive_rate: expected .* > 0"),
    (lambda: conformal_threshold([1.0, 2.0], "5 %"), TypeError, "false_positive_rate"),
    (lambda: conformal_threshold("scores", 0.5), TypeError, "scores: expected"),
    (lambda: conformal_p_value(math.inf, [1.0]), ValueError, "scores: expected finite"),
    (lambda: conformal_p_value([1.0], 2.0), ValueError, "good_scores: expected one score"),
    (lambda: conformal_p_value([1.0], [math.nan]), ValueError, "good_scores: expected finite"),
    (lambda: conformal_p_value([1j], [1.0]), TypeError, "scores: expected real"),
]


@pytest.mark.parametrize(("call", "error", "match"), BAD)
def test_bad_scores_and_rates_are_refused(call, error, match):
    with pytest.raises(error, match=match):
        call()


# ---- the largest distance of an image


def of_images(rng, n, c=3, grid=(2, 2), dtype=np.float64):
    return frozen(rng.standard_normal((n, c, *grid)), dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("options", [{}, {"reg_covar": 0}, {"shrinkage": "oas"}], ids=str)
def test_p_values_of_images_are_those_of_their_largest_distances(rng, options, dtype):
    train, new = of_images(rng, 20, dtype=dtype), of_images(rng, 9, dtype=dtype)
    model = MultiVariateGaussian(**options).fit(train).calibrate(train)
    good = model.leave_one_out(train).max(axis=(1, 2))
    want = [(1 + (good >= d).sum()) / 21 for d in model.mahalanobis(new).max(axis=(1, 2))]
    np.testing.assert_allclose(model.image_p_value(new), want, rtol=1e-15)


def test_p_values_of_images_ask_for_calibrate(rng):
    train = of_images(rng, 20)
    model = MultiVariateGaussian().fit(train)
    with pytest.raises(ValueError, match=r"image_p_value: .*calibrate\(embedding\)"):
        model.image_p_value(train)
    model.calibrate(train).partial_fit(train[:2])
    with pytest.raises(ValueError, match="calibrate"):
        model.image_p_value(train)


def test_p_values_of_images_know_all_patches_and_none_of_a_part(rng):
    train = of_images(rng, 20)
    part = MultiVariateGaussian().fit(train).calibrate(train).select(0)
    assert part.p_value_law == "leave-one-out"
    with pytest.raises(ValueError, match=r"image_p_value: .*whole images"):
        part.image_p_value(train[:, :, 0])


@pytest.mark.parametrize("resumable", [True, False])
def test_files_keep_p_values_of_images(rng, tmp_path, resumable):
    train, new = of_images(rng, 20, dtype=np.float32), of_images(rng, 9, dtype=np.float32)
    model = MultiVariateGaussian().fit(train).calibrate(train)
    model.save(tmp_path / "m.npz", resumable=resumable)
    got = MultiVariateGaussian.load(tmp_path / "m.npz")
    np.testing.assert_array_equal(got.image_p_value(new), model.image_p_value(new))
