"""Laws of limits: of a rate, by default, and how long they and calibrations last."""

import math

import numpy as np
import pytest
import scipy.stats
from common import SIGMAS, frozen

from mvgauss import DefaultThresholdWarning, MultiVariateGaussian, conformal_threshold


def largest(d):
    """Return the largest distance of each image."""
    return d.reshape(len(d), -1).max(axis=1)


# ---- limits of a rate


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
    assert conformal_threshold(np.arange(1.0, n + 1), rate) == k


@pytest.mark.parametrize(
    ("n", "rate", "least"), [(18, 0.05, "0.05263"), (98, 0.01, "0.0101"), (3, 0.2, "0.25")]
)
def test_a_rate_too_small_for_the_images_is_refused_naming_the_smallest(train, n, rate, least):
    model = MultiVariateGaussian().fit(train)
    images = np.resize(train, (n, *train.shape[1:]))
    match = rf"false_positive_rate: expected at least .* = {least} with n = {n} images, got {rate}"
    with pytest.raises(ValueError, match=match):
        model.threshold(images, rate)
    model.threshold(images, float(least) * 1.001)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_limit_of_held_out_images_is_a_quantile_of_their_largest_distances(train, test, dtype):
    train, test = train.astype(dtype), test.astype(dtype)
    model = MultiVariateGaussian().fit(train)
    d = largest(model.mahalanobis(test))
    limit, d = model.threshold(test, 0.25), d.astype(float)
    assert limit == np.sort(d)[math.ceil(8 * 0.75) - 1] == model.threshold_
    np.testing.assert_allclose(model.decision_function(test), (limit**2 - d**2) / 2, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(model.predict(test), np.where(d <= limit, 1, -1))
    assert model.predict(test)[d == limit].tolist() == [1]  # the image whose distance is the limit
    assert model.predict(test + 100).tolist() == [-1] * 7


@pytest.mark.parametrize("calibrated", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_limit_of_the_training_images_is_a_quantile_of_leave_one_out_maxima(train, dtype, calibrated):
    train = train.astype(dtype)
    model = MultiVariateGaussian().fit(train)
    if calibrated:
        model.calibrate(train)
    scores = np.sort(largest(model.leave_one_out(train)))
    k = math.ceil(31 * 0.9) - 1
    assert model.threshold(train, 0.1, source="training") == scores[k]
    assert model.threshold_ > np.sort(largest(model.mahalanobis(train)))[k]


@pytest.mark.parametrize("source", ["held-out", "training"])
def test_limits_keep_their_promise(rng, source):
    """Over images of all kinds a new one exceeds the limit rate of the time, with (n + 1) rate whole."""
    above = []
    for _ in range(300):
        train, held, new = (rng.standard_normal((k, 3, 2)) for k in (19, 19, 50))
        model = MultiVariateGaussian(n_jobs=1).fit(train)
        model.threshold(held if source == "held-out" else train, 0.1, source=source)
        above.append(float((model.predict(new) < 0).mean()))
    noise = SIGMAS * np.std(above) / math.sqrt(len(above))
    assert abs(np.mean(above) - 0.1) < noise + 0.02 * (source == "training")


# ---- the limit by default


@pytest.mark.parametrize("ddof", [0, 1, 2])
def test_by_hotellings_law_five_percent_are_shared_by_the_patches(train, ddof):
    n, c, patches = 30, 4, 6
    f = scipy.stats.f.isf(0.05 / patches, c, n - c)
    want = math.sqrt(f * c * (n + 1) * (n - ddof) / (n * (n - c)))
    exact = MultiVariateGaussian(reg_covar=0, ddof=ddof).fit(train)
    assert exact.threshold_ == pytest.approx(want, rel=1e-9)
    # a ridge lessens distances, and the bound stays; of S only the part 1 - rho is there
    assert MultiVariateGaussian(reg_covar=0.3, ddof=ddof).fit(train).threshold_ == pytest.approx(want)
    shrunk = MultiVariateGaussian(shrinkage=0.19, ddof=ddof).fit(train)
    assert shrunk.threshold_ == pytest.approx(want / 0.9)


@pytest.mark.parametrize("options", [{"reg_covar": 0}, {"reg_covar": 0.1, "shrinkage": "oas"}], ids=str)
def test_the_patch_of_the_highest_rank_and_intensity_decides(rng, options):
    x = rng.standard_normal((12, 3, 2)) * [1, 2, 4][:1] + rng.standard_normal((12, 1, 2))
    limit = MultiVariateGaussian(**options).fit(x).threshold_
    x[:, 0, 1] = 1
    model = MultiVariateGaussian(**options).fit(frozen(x))
    law = scipy.stats.f.isf(0.025, 3, 9) * 3 * 13 * 11 / (12 * 9)
    intensity = model.diagnostics()["shrinkage"].max()
    assert model.threshold_ == pytest.approx(math.sqrt(law / (1 - intensity)))
    assert options["reg_covar"] or model.threshold_ == limit


def test_where_nothing_varies_the_limit_is_zero():
    model = MultiVariateGaussian(reg_covar=0).fit(np.ones((12, 3, 2)))
    assert model.threshold_ == 0
    assert (model.mahalanobis(np.zeros((2, 3, 2))) == 0).all()


def test_of_given_parameters_it_is_that_of_chi_squared(rng):
    want = pytest.approx(math.sqrt(scipy.stats.chi2.isf(0.025, 3)), rel=1e-9)
    eyes = np.stack([np.eye(3)] * 2)
    assert MultiVariateGaussian.from_parameters(np.zeros((3, 2)), eyes).threshold_ == want
    assert MultiVariateGaussian(3, 2).threshold_ == want


def test_of_a_calibrated_model_it_is_that_of_the_stored_ranks(rng):
    x = frozen(rng.standard_normal((25, 40, 2)))
    model = MultiVariateGaussian(shrinkage=0.1).fit(x).calibrate(x)
    assert model.threshold_ == conformal_threshold(largest(model.leave_one_out(x)), 0.05)
    with pytest.warns(DefaultThresholdWarning):
        model.predict(x)
    few = MultiVariateGaussian(shrinkage=0.1).fit(x[:18]).calibrate(x[:18])  # of which 1 in 19 is the least
    with pytest.raises(ValueError, match="threshold_: expected a model with a limit"):
        few.predict(x)


@pytest.mark.parametrize("options", [{}, {"reg_covar": 0}, {"shrinkage": 0.3}], ids=str)
def test_a_weight_counts_in_the_default_limit_as_often_as_the_sample_is_there(rng, options):
    x, w = frozen(rng.standard_normal((9, 3, 2))), frozen(rng.integers(0, 4, 9, np.intp))
    weighted = MultiVariateGaussian(**options).fit(x, sample_weight=w)
    repeated = MultiVariateGaussian(**options).fit(np.repeat(x, w, axis=0))
    assert weighted.threshold_ == pytest.approx(repeated.threshold_)


# ---- how long they last


def reloaded(model, x, folder):
    model.save(folder / "m", resumable=False)
    return MultiVariateGaussian.load(folder / "m")


#: What is done to a model, and whether a calibration and a limit outlive it.
CHANGES = {
    "fit": (lambda m, x, _: m.fit(x), False, False),
    "partial_fit": (lambda m, x, _: m.partial_fit(x), False, True),
    "merge": (lambda m, x, _: m.merge(MultiVariateGaussian().fit(x)), False, True),
    "scores": (lambda m, x, _: (m.mahalanobis(x), m)[1], True, True),
    "saved and loaded": (reloaded, True, True),
}


@pytest.mark.parametrize("change", list(CHANGES))
def test_a_calibration_is_of_its_samples_and_a_limit_stays_until_fit(train, test, tmp_path, change):
    function, calibration_lasts, limit_lasts = CHANGES[change]
    model = MultiVariateGaussian().fit(train).calibrate(train)
    limit, p, decisions = model.threshold(test, 0.25), model.p_value(test), model.predict(test)
    got = function(model, train, tmp_path)
    assert got.p_value_law == ("leave-one-out" if calibration_lasts else "hotelling-bound")
    assert (got.threshold_ == limit) == limit_lasts
    if calibration_lasts:
        np.testing.assert_array_equal(got.p_value(test), p)
        np.testing.assert_array_equal(got.predict(test), decisions)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("change", ["partial_fit", "merge"])
def test_a_limit_that_was_set_for_fewer_samples_decides_and_warns(train, test, change):
    model = MultiVariateGaussian().fit(train)
    model.threshold_ = 2.5
    d = largest(CHANGES[change][0](model, train, None).mahalanobis(test))
    with pytest.warns(DefaultThresholdWarning, match="set when 30 samples were fitted, and now there are 60"):
        got = model.predict(test)
    np.testing.assert_array_equal(got, np.where(d <= 2.5, 1, -1))
    model.threshold_ = 2.5
    model.predict(test)  # which warns no more


def test_a_refused_calibration_or_limit_changes_nothing(train, test):
    model = MultiVariateGaussian().fit(train).calibrate(train)
    limit, want = model.threshold(test, 0.25), model.p_value(test)
    for call in (
        lambda: model.threshold(test, 1e-6),
        lambda: model.threshold(test * np.nan, 0.25),
        lambda: model.threshold(test, 0.25, source="test"),
        lambda: model.threshold(test, 0.25, sample_weight=np.ones(7)),
        lambda: model.calibrate(train[1:]),
        lambda: model.calibrate(train * np.nan),
        lambda: setattr(model, "threshold_", -1),
        lambda: setattr(model, "threshold_", math.nan),
    ):
        with pytest.raises(ValueError, match="expected"):
            call()
    for value in ("3", None):
        with pytest.raises(TypeError, match="threshold_: expected"):
            model.threshold_ = value
    assert model.threshold_ == limit
    np.testing.assert_array_equal(model.p_value(test), want)


def test_weights_that_add_up_to_hardly_more_than_features_have_no_default_limit(rng):
    """Hotelling's law with so little to spare has a limit that no image can reach."""
    x, w = frozen(rng.standard_normal((50, 4, 9))), np.full(50, 0.0802)
    w[0] = 0.081
    model = MultiVariateGaussian(ddof=0).fit(x, sample_weight=w)
    with pytest.raises(ValueError, match="threshold_: expected a model with a limit"):
        model.predict(x)
