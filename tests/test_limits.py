"""Laws of limits: of a rate, by default, and how long they and calibrations last."""

import math
from fractions import Fraction

import numpy as np
import pytest
import scipy.stats
from common import SIGMAS, frozen, seeds
from hypothesis import given
from hypothesis import strategies as st

from mvgauss import MultiVariateGaussian, _distributions

# ---------------------------------------------------------------------------------------------------------
# limits


@given(
    seeds,
    st.integers(1, 120),
    st.sampled_from(["0.01", "0.05", "0.1", "0.2", "0.25", "0.3", "0.5", "0.7", "0.99", "0.005"]),
    st.booleans(),
)
def test_the_limit_is_the_conformal_quantile(seed, n, rate, ties):
    """The ceil((n + 1)(1 - rate))-th smallest, in the decimals that were written."""
    scores = np.random.default_rng(seed).standard_normal(n)
    scores = np.rint(2 * scores) if ties else scores
    k = math.ceil((n + 1) * (1 - Fraction(rate)))
    if k > n:
        with pytest.raises(ValueError, match="false_positive_rate: expected at least 1 / "):
            _distributions.conformal_limit(frozen(scores), float(rate))
    else:
        assert _distributions.conformal_limit(frozen(scores), float(rate)) == np.sort(scores)[k - 1]


@pytest.mark.parametrize(
    ("n", "rate", "k"),
    [
        (19, 0.05, 19),
        (99, 0.01, 99),
        (9, 0.1, 9),
        (9, 0.3, 7),
        (999, 0.001, 999),
        (1, 0.5, 1),
        (99, 0.29, 71),
    ],
)
def test_the_limit_of_a_rate_that_divides_evenly_loses_nothing_to_rounding(n, rate, k):
    assert _distributions.conformal_limit(np.arange(1.0, n + 1), rate) == k


@pytest.mark.parametrize(
    ("n", "rate", "least"), [(18, 0.05, "0.05263"), (98, 0.01, "0.0101"), (3, 0.2, "0.25")]
)
def test_a_rate_too_small_for_the_images_is_refused_naming_the_smallest(train, n, rate, least):
    model = MultiVariateGaussian().fit(train)
    images = np.resize(train, (n, *train.shape[1:]))
    with pytest.raises(
        ValueError,
        match=rf"false_positive_rate: expected at least .* = {least} with n = {n} images, got {rate}",
    ):
        model.threshold(images, rate)
    model.threshold(images, float(least) * 1.001)


@pytest.mark.parametrize(("rate", "got"), [(0, "0"), (1, "1"), (-0.1, "-0.1"), (1.5, "1.5"), (np.nan, "nan")])
def test_a_rate_is_between_zero_and_one(model, train, rate, got):
    with pytest.raises(ValueError, match=f"false_positive_rate: expected .*, got {got}"):
        model.threshold(train, rate)


def test_another_source_is_refused(model, train):
    with pytest.raises(ValueError, match="source: expected 'held-out' or 'training', got 'test'"):
        model.threshold(train, 0.1, source="test")


def largest(d):
    """Return the largest distance of each image."""
    return d.reshape(len(d), -1).max(axis=1)


def test_the_limit_of_held_out_images_is_a_quantile_of_their_largest_distances(model, test):
    scores = np.sort(largest(model.mahalanobis(test)))
    assert model.threshold(test, 0.25) == scores[math.ceil(8 * 0.75) - 1] == model.threshold_


def test_the_limit_of_the_training_images_is_a_quantile_of_leave_one_out_maxima(model, train):
    scores = np.sort(largest(model.leave_one_out(train)))
    assert model.threshold(train, 0.1, source="training") == scores[math.ceil(31 * 0.9) - 1]
    assert model.threshold_ > np.sort(largest(model.mahalanobis(train)))[math.ceil(31 * 0.9) - 1]


def limits(rng, source, n, rate, rounds):
    """Return how often new good images exceed limits, each set anew on n images of two patches."""
    c, above = 3, []
    for _ in range(rounds):
        train, held, new = (rng.standard_normal((k, c, 2)) for k in (max(n, 12), n, 50))
        model = MultiVariateGaussian(n_jobs=1).fit(train)
        model.threshold(held if source == "held-out" else train, rate, source=source)
        above.append(float((model.predict(new) < 0).mean()))
    return np.array(above)


def test_held_out_limits_keep_their_promise(rng):
    """Over the images of both kinds a new one exceeds the limit rate of the time, with (n + 1) rate whole."""
    above = limits(rng, "held-out", 19, 0.1, 300)
    noise = SIGMAS * above.std() / math.sqrt(len(above))
    assert abs(above.mean() - 0.1) < noise


def test_limits_of_the_training_images_are_close(rng):
    above = limits(rng, "training", 19, 0.1, 300)
    assert abs(above.mean() - 0.1) < 0.02 + SIGMAS * above.std() / math.sqrt(len(above))


def test_decisions_and_margins_agree_and_a_tie_is_good(model, test):
    limit = model.threshold(test, 0.25)
    d = largest(model.mahalanobis(test))
    np.testing.assert_allclose(model.decision_function(test), (limit**2 - d**2) / 2, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(model.predict(test), np.where(d <= limit, 1, -1))
    assert (d == limit).any()  # the limit is one of them: its image is good
    assert model.predict(test)[d == limit].tolist() == [1]
    assert model.predict(test + 100).tolist() == [-1] * 7
    assert model.decision_function(test).shape == (7,)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_tie_is_good_in_every_precision(train, test, dtype):
    model = MultiVariateGaussian().fit(train.astype(dtype))
    limit = model.threshold(test.astype(dtype), 0.25)
    d = largest(model.mahalanobis(test.astype(dtype)))
    assert (model.predict(test.astype(dtype)) == np.where(d <= limit, 1, -1)).all()
    assert model.predict(test.astype(dtype))[d == limit].tolist() == [1]


def test_without_a_limit_five_percent_of_the_exact_law_are_shared_by_the_patches(train):
    model = MultiVariateGaussian(reg_covar=0).fit(train)
    n, c, patches = 30, 4, 6
    f = scipy.stats.f.isf(0.05 / patches, c, n - c)
    assert model.threshold_ == pytest.approx(math.sqrt(f * c * (n + 1) * (n - 1) / (n * (n - c))), rel=1e-9)
    for ddof in (0, 2):
        other = MultiVariateGaussian(reg_covar=0, ddof=ddof).fit(train)
        np.testing.assert_array_equal(other.predict(1.5 * train), model.predict(1.5 * train))


@pytest.mark.parametrize("reg_covar", [0, 1e-9], ids=["exact", "by moments"])
def test_the_default_limit_of_one_feature_and_of_constants(rng, reg_covar):
    one = MultiVariateGaussian(reg_covar=reg_covar).fit(rng.standard_normal((12, 1, 2)))
    want = scipy.stats.f.isf(0.025, 1, 11) * 13 / 12
    assert one.threshold_ == pytest.approx(math.sqrt(want), rel=0.05 if reg_covar else 1e-9)
    if not reg_covar:  # nothing varies: whatever comes is as near, at 0
        constants = MultiVariateGaussian(reg_covar=0).fit(np.ones((12, 3, 2)))
        assert constants.threshold_ == 0
        assert (constants.mahalanobis(np.zeros((2, 3, 2))) == 0).all()


def test_the_default_limit_by_the_exact_law_is_that_of_the_highest_rank(rng):
    x = rng.standard_normal((12, 3, 2))
    limit = MultiVariateGaussian(reg_covar=0).fit(x).threshold_
    x[:, 0, 1] = 1
    model = MultiVariateGaussian(reg_covar=0).fit(frozen(x))
    assert model.rank.tolist() == [3, 2]
    assert model.threshold_ == limit


def test_of_the_identity_and_of_one_sample_the_default_limit_is_that_of_chi_squared(rng):
    want = pytest.approx(math.sqrt(scipy.stats.chi2.isf(0.025, 3)))
    assert MultiVariateGaussian(3, 2).threshold_ == want
    assert MultiVariateGaussian(ddof=0).fit(rng.standard_normal((1, 3, 2))).threshold_ == want


def test_the_default_limit_is_kept_by_good_images(rng):
    wrong = []
    for _ in range(60):
        train, new = rng.standard_normal((20, 3, 5)), rng.standard_normal((200, 3, 5))
        wrong.append((MultiVariateGaussian(reg_covar=0, n_jobs=1).fit(train).predict(new) < 0).mean())
    assert 0.02 < np.mean(wrong) < 0.05 + SIGMAS * np.std(wrong) / math.sqrt(60)


# ---------------------------------------------------------------------------------------------------------
# states that belong to the samples


def new_states(x, folder):
    """Return what brings new samples or forgets old ones, by name."""

    def reload(model):
        model.save(folder / "m")
        return MultiVariateGaussian.load(folder / "m")

    return {
        "fit": (lambda m: m.fit(x), False),
        "partial_fit": (lambda m: m.partial_fit(x), False),
        "merge": (lambda m: m.merge(MultiVariateGaussian().fit(x)), False),
        "nothing": (lambda m: m, True),
        "scores": (lambda m: (m.mahalanobis(x), m)[1], True),
        "saved and loaded": (reload, True),
    }


STATES = ["fit", "partial_fit", "merge", "nothing", "scores", "saved and loaded"]


@pytest.mark.parametrize("what", STATES)
def test_a_calibration_lasts_until_new_samples_come(train, test, tmp_path, what):
    change, lasts = new_states(train, tmp_path)[what]
    model = MultiVariateGaussian().fit(train).calibrate(train)
    want = model.p_value(test)
    got = change(model)
    assert got.p_value_law == ("leave-one-out" if lasts else "chi2")
    if lasts:
        np.testing.assert_array_equal(got.p_value(test), want)


@pytest.mark.parametrize("what", STATES)
def test_a_limit_lasts_until_new_samples_come(train, test, tmp_path, what):
    change, lasts = new_states(train, tmp_path)[what]
    model = MultiVariateGaussian().fit(train)
    limit = model.threshold(test, 0.25)
    assert (change(model).threshold_ == limit) == lasts


@pytest.mark.parametrize("resumable", [True, False])
def test_calibration_and_limit_are_saved_with_the_model(train, test, tmp_path, resumable):
    model = MultiVariateGaussian().fit(train).calibrate(train)
    model.threshold(test, 0.25)
    model.save(tmp_path / "m", resumable=resumable)
    got = MultiVariateGaussian.load(tmp_path / "m")
    assert got.threshold_ == model.threshold_
    np.testing.assert_array_equal(got.p_value(test), model.p_value(test))
    np.testing.assert_array_equal(got.predict(test), model.predict(test))


def test_a_refused_calibration_or_limit_changes_nothing(train, test):
    model = MultiVariateGaussian().fit(train).calibrate(train)
    limit, want = model.threshold(test, 0.25), model.p_value(test)
    for call in (
        lambda: model.threshold(test, 1e-6),
        lambda: model.threshold(test * np.nan, 0.25),
        lambda: model.calibrate(train[1:]),
        lambda: model.calibrate(train * np.nan),
    ):
        with pytest.raises(ValueError, match="expected"):
            call()
    assert model.threshold_ == limit
    np.testing.assert_array_equal(model.p_value(test), want)
