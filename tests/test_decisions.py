"""Decisions without a limit that was set, refusals, and the warnings where numbers mislead."""

import itertools
import math
import warnings

import numpy as np
import pytest
from common import frozen
from hypothesis import given
from hypothesis import strategies as st
from scipy import linalg, stats

from mvgauss import (
    DefaultThresholdWarning,
    FewSamplesWarning,
    MultiVariateGaussian,
    PictureWarning,
    _distributions,
)


def images(rng, n, c=3, grid=(2, 2), dtype=np.float64):
    return frozen(rng.standard_normal((n, c, *grid)), dtype)


# ---------------------------------------------------------------------------------------------------------
# who decides


@pytest.mark.parametrize("ask", ["predict", "decision_function"])
@pytest.mark.parametrize("options", [{}, {"reg_covar": 0, "shrinkage": 0.1}], ids=str)
def test_decisions_by_a_limit_that_nobody_set_warn(rng, ask, options):
    x = images(rng, 20)
    model = MultiVariateGaussian(**options).fit(x)
    with pytest.warns(DefaultThresholdWarning, match=r"no limit was set.*threshold\(good_images") as caught:
        getattr(model, ask)(x)
    assert caught[0].filename == __file__


def test_decisions_by_a_limit_that_was_set_or_an_exact_law_do_not_warn(rng):
    x = images(rng, 20)
    exact, fit = MultiVariateGaussian(reg_covar=0).fit(x), MultiVariateGaussian().fit(x)
    assigned = MultiVariateGaussian().fit(x)
    fit.threshold(images(rng, 9), 0.1)
    assigned.threshold_ = 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for model in (exact, fit, assigned):
            model.predict(x)


def test_a_limit_can_be_assigned_and_lasts_until_the_model_changes(rng, tmp_path):
    x = images(rng, 20)
    model = MultiVariateGaussian().fit(x)
    default, d = model.threshold_, model.mahalanobis(x).max(axis=(1, 2))
    model.threshold_ = np.median(d)
    assert model.threshold_ == np.median(d)
    assert (model.predict(x) == np.where(d <= np.median(d), 1, -1)).all()
    model.save(tmp_path / "m.npz")
    assert MultiVariateGaussian.load(tmp_path / "m.npz").threshold_ == np.median(d)
    assert model.fit(x).threshold_ == default


@pytest.mark.parametrize(
    ("value", "error"), [(-1, ValueError), (math.nan, ValueError), ("3", TypeError), (None, TypeError)]
)
def test_what_is_no_limit_cannot_be_assigned(rng, value, error):
    model = MultiVariateGaussian().fit(images(rng, 20))
    with pytest.raises(error, match="threshold_: expected"):
        model.threshold_ = value


def test_a_model_of_given_sizes_scores_before_fit_and_does_not_decide(rng):
    x = images(rng, 20)
    model = MultiVariateGaussian(3, 4)
    np.testing.assert_allclose(model.mahalanobis(x), np.linalg.norm(x, axis=1), rtol=1e-6)
    for ask in (model.predict, model.decision_function, lambda x: model.threshold(x, 0.1)):
        with pytest.raises(ValueError, match="not fitted yet"):
            ask(x)
    with pytest.raises(ValueError, match="not fitted yet"):
        model.threshold_ = 2.0
    model.fit(x).predict(x)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("offset", [0.0, 1000.0])
@pytest.mark.parametrize("n", [3, 20, 60])
def test_fitted_images_are_refused_as_held_out(rng, dtype, offset, n):
    x = frozen(images(rng, n, c=5) + offset, dtype)
    parts = MultiVariateGaussian().partial_fit(x[: n // 2]).partial_fit(x[n // 2 :])
    for model in (MultiVariateGaussian().fit(x), parts):
        copies = [x.astype(d) for d in (np.float32, np.float64, np.float16)[: 2 if offset else 3]]
        for same in (x, x[rng.permutation(n)], *copies):
            with pytest.raises(ValueError, match=r"fitted ones; use source='training'"):
                model.threshold(same, 0.5)
        model.threshold(x, 0.5, source="training")


@pytest.mark.parametrize("options", [{}, {"reg_covar": 0}, {"dtype": "f4"}], ids=str)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("offset", [0.0, 1e7])
@pytest.mark.filterwarnings("ignore::mvgauss.FewSamplesWarning")
def test_a_model_of_few_samples_knows_each_of_them(rng, tmp_path, options, weighted, offset):
    """A part of the fitted images, one among others, those of a weighted model and of one without moments."""
    x, new = (frozen(images(rng, 12, c=40) + offset) for _ in range(2))
    w = rng.integers(1, 4, 12) if weighted else None
    model = MultiVariateGaussian(**options).fit(x, sample_weight=w)
    model.save(tmp_path / "model.npz", resumable=False)
    models = [model]
    if options.get("reg_covar") != 0:  # which keeps rows without the moments too
        models.append(MultiVariateGaussian.load(tmp_path / "model.npz"))
    alike = np.array(new)
    alike[:, :, 0] = x[:, :, 0]  # pictures with one background
    for one in models:
        one.threshold(new, 0.5)
        one.threshold(alike, 0.5)
        for some, got in (
            (x[3:8], "fitted ones"),
            (x[rng.permutation(12)], "fitted ones"),
            (np.concatenate([new, x[:2]]), "2 of the 12 fitted ones"),
        ):
            with pytest.raises(ValueError, match=f"not fitted, got {got}; use source='training'"):
                one.threshold(some, 0.5)


@pytest.mark.parametrize("live", [5, 11, 12, 20])
@pytest.mark.parametrize(("p", "weighted"), [(1, False), (9, False), (9, True)])
@pytest.mark.filterwarnings("ignore::mvgauss.FewSamplesWarning")
def test_held_out_images_in_the_span_of_the_fitted_by_their_nature_are_taken(rng, live, p, weighted):
    """Dead features, and features that depend on others, leave few directions or none open."""
    w = rng.uniform(1, 3, 12) if weighted else None
    dead = np.arange(40) >= live
    mixed = rng.standard_normal((live, 40))
    for root in (np.diag(1.0 - dead), mixed.T @ mixed):
        x, new = (np.einsum("ncp,cd->ndp", images(rng, 12, c=40, grid=(p,)), root) for _ in range(2))
        MultiVariateGaussian().fit(x, sample_weight=w).threshold(new, 0.5)


@pytest.mark.parametrize(
    "edge", [np.s_[..., 0], np.s_[..., -1], np.s_[..., 0, :], np.s_[..., -1, :]], ids=str
)
@pytest.mark.parametrize("side", [8, 14, 16])
@pytest.mark.filterwarnings("ignore::mvgauss.FewSamplesWarning")
def test_held_out_images_with_the_background_of_a_fitted_one_at_an_edge_are_taken(rng, edge, side):
    background = np.zeros((side, side), bool)
    background[edge] = background[:: side - 1, :: side - 1] = True
    x, new = (rng.standard_normal((4, 40, side, side)) for _ in range(2))
    x[0] *= ~background
    new *= ~background
    model = MultiVariateGaussian().fit(x)
    model.threshold(new, 0.5)
    with pytest.raises(ValueError, match="1 of the 4 fitted ones"):
        model.threshold(np.concatenate([new, x[:1]]), 0.5)


@pytest.mark.parametrize("live", [16, 17, 20])
@pytest.mark.filterwarnings("ignore::mvgauss.FewSamplesWarning")
def test_one_patch_of_few_live_features_of_a_weighted_model_tells_nothing(rng, live):
    x, new = (rng.standard_normal((17, 40)) * (np.arange(40) < live) for _ in range(2))
    MultiVariateGaussian().fit(x, sample_weight=rng.uniform(1, 3, 17)).threshold(new, 0.5)


@pytest.mark.filterwarnings("ignore::mvgauss.FewSamplesWarning")
def test_where_fitted_images_repeat_each_other_held_out_ones_are_still_others(rng):
    x, new = (rng.standard_normal((4, 40, 2)) for _ in range(2))
    new[0, :, 0] = x[0, :, 0]
    x[1, :, 1] = x[0, :, 1]
    MultiVariateGaussian().fit(x).threshold(new, 0.5)


@given(st.integers(2, 5), st.integers(1, 4), st.integers(1, 3), st.integers(0, 999))
def test_few_whole_numbers_are_not_taken_for_the_fitted(n, c, p, seed):
    rng = np.random.default_rng(seed)
    x, new = rng.integers(0, 4, (2, n + 1, c, p))
    x = x[:n]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        MultiVariateGaussian().fit(x).threshold(new, 0.5)


def test_held_out_images_as_many_as_the_fitted_are_taken(rng):
    x = images(rng, 20)
    model = MultiVariateGaussian().fit(x)
    other = np.array(x)
    other[3, 1, 0, 1] += 1e-6
    for held in (images(rng, 20), -x, 2 * x - x.mean(axis=0), other):
        model.threshold(held, 0.1)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("offset", [0.0, pytest.param(10.0, marks=pytest.mark.slow), 1000.0])
@pytest.mark.parametrize(
    ("c", "n"), [(1, 6), (1, 60), *(pytest.param(3, n, marks=pytest.mark.slow) for n in (6, 60))]
)
def test_other_images_in_half_or_single_precision_are_taken(rng, c, n, offset, dtype):
    """Of 200 sets of one feature in half precision, one may agree by chance in mean and squares."""
    model = MultiVariateGaussian(n_jobs=1).fit(rng.standard_normal((n, c)) + offset)
    refused = 0
    for _ in range(200):
        held = (rng.standard_normal((n, c)) + offset).astype(dtype)
        try:
            model.threshold(held, 0.5)
        except ValueError:
            refused += 1
    assert refused == 0 if c > 1 or dtype == np.float32 else refused <= 1


def test_weights_of_held_out_images_are_refused(rng):
    model = MultiVariateGaussian().fit(images(rng, 20))
    with pytest.raises(ValueError, match="sample_weight: expected None for held-out images"):
        model.threshold(images(rng, 9), 0.1, sample_weight=np.ones(9))


@pytest.mark.parametrize("seed", range(20))
def test_whole_numbers_of_the_same_mean_are_not_taken_for_the_fitted(seed):
    """Means of few whole numbers often agree; their squares then seldom do."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 100, (6, 1))
    other = rng.integers(0, 100, (6, 1))
    other[0] += x.sum() - other.sum()
    if sorted(x.ravel()) != sorted(other.ravel()):
        MultiVariateGaussian().fit(x).threshold(other, 0.5)


# ---------------------------------------------------------------------------------------------------------
# the limit by default


def rate(rng, n, c, p, fits, new, root=None, **options):
    """Return how many of new good images exceed the default limit."""
    root = np.eye(c) if root is None else root
    above = []
    for _ in range(fits):
        model = MultiVariateGaussian(feature_axis=-1, n_jobs=1, **options)
        model.fit(rng.standard_normal((n, p, c)) @ root)
        d = model.mahalanobis(rng.standard_normal((new, p, c)) @ root)
        above.append(np.mean(d.max(axis=1) > model.threshold_))
    return float(np.mean(above))


def rates():
    """Return all cases; those of correlated features with one option, or as many samples, are quick."""
    every = [{}, {"reg_covar": 1.0}, {"reg_covar": 0, "shrinkage": "oas"}]
    for size, options, correlated in itertools.product(
        [(20, 60), (40, 40), (60, 20), (60, 1)], every, [False, True]
    ):
        quick = correlated and (size == (40, 40) or not options)
        yield pytest.param(*size, options, correlated, marks=[] if quick else pytest.mark.slow)


@pytest.mark.parametrize(("n", "c", "options", "correlated"), list(rates()))
def test_a_good_image_exceeds_the_default_limit_about_as_often_as_said(rng, n, c, options, correlated):
    """5 %: 100 fits, 10,000 new images; chi-squared is exceeded by 0 to 100 % of them."""
    root = np.diag(np.geomspace(3, 0.1, c)) if correlated else None
    assert 0.035 < rate(rng, n, c, 1, 100, 100, root, **options) < 0.085


@pytest.mark.parametrize("options", [{}, {"reg_covar": 0, "shrinkage": "oas"}], ids=str)
def test_with_many_patches_it_is_exceeded_at_most_about_as_often(rng, options):
    """5 fits of 60 images, 1,500 new images of 50 patches."""
    assert rate(rng, 60, 20, 50, 5, 300, **options) < 0.07


@pytest.mark.parametrize("unit", [1e3, 1e5, 1e20])
@pytest.mark.parametrize(("n", "c"), [(20, 60), (35, 40)])
def test_it_is_exceeded_as_rarely_where_the_ridge_is_tiny_beside_the_features(rng, unit, n, c):
    """30 fits, 600 new images of 5 patches."""
    assert rate(rng, n, c, 5, 30, 20, unit * np.eye(c)) < 0.1


def test_without_a_ridge_the_moments_lead_to_the_exact_law():
    """The scale of F and its degrees of freedom below exactly, those above but for terms of 1/n."""
    n, c = 50, 12
    hat = (n - 1) * np.ones((1, c))
    law = _distributions.Shape.of_new(hat, 0 * hat, np.full(1, 1 / (n - 1)), float(n), c)
    assert law.mean[0] == pytest.approx(c * (n + 1) * (n - 1) / (n * (n - c)), rel=1e-12)
    assert 1 / law.below[0] == pytest.approx(n - c, rel=1e-12)
    assert 1 / law.above[0] == pytest.approx(c, rel=0.05)
    want = law.mean[0] * stats.f.isf(0.01, c, n - c)
    assert law.largest_isf(0.01) == pytest.approx(want, rel=0.03)


@pytest.mark.parametrize("spread", [1, 10])
@pytest.mark.parametrize(("n", "c", "p"), [(12, 30, 5), (20, 30, 5)])
def test_it_is_not_exceeded_with_certainty_where_few_samples_are_not_regularised(rng, n, c, p, spread):
    """60 fits, 3,000 new images; chi-squared is exceeded by 0 to 100 % of them."""
    root = np.diag(np.geomspace(1, 1 / spread, c))
    assert 0.005 < rate(rng, n, c, p, 60, 50, root, reg_covar=0) < 0.1


def test_what_two_directions_say_of_each_other_gives_the_law_of_few_samples(rng):
    """The means over all directions, of a polynomial in sines and cosines, from as many as determine it."""
    c = 8
    k = rng.standard_normal((2, c))
    k[1] += 2 * k[0]
    squared, expected = [], []
    for angle in np.arange(8) * np.pi / 4:
        out = np.cos(angle) * k[0] + np.sin(angle) * k[1]
        kept = np.cos(angle) * k[1] - np.sin(angle) * k[0]
        along = out @ kept / (kept @ kept)
        weight = np.sum((out - along * kept) ** 2) ** -2
        squared.append(weight * along**2)
        expected.append(weight)
    law = _distributions.Shape.of_pinv(np.linalg.pinv(k.T @ k)[None], np.full(1, 2), 3, 5.0)
    free = 1 + np.mean(expected) / np.mean(squared)
    assert 1.5 < free < c - 1.5
    assert 1 / law.below[0] == pytest.approx(free, rel=1e-9)
    assert law.mean[0] == pytest.approx(5 * 2 / free, rel=1e-9)
    assert 1 / law.above[0] == 2


def test_equal_orthogonal_directions_are_of_as_many_dimensions_as_features_vary():
    """They say of each other that there are more; a third of the features is constant."""
    u = linalg.hadamard(8)[:, :2] / 8**0.5
    inverse = np.zeros((1, 12, 12))
    inverse[0, :8, :8] = u @ u.T
    law = _distributions.Shape.of_pinv(inverse, np.full(1, 2), 3, 5.0)
    assert 1 / law.below[0] == pytest.approx(8 - 2 + 1)


def test_without_regularisation_weights_lead_to_the_exact_law_too(rng):
    x = rng.standard_normal((12, 3, 2))
    x[:, 0] = 1  # the rank is 2
    w = np.ones(12)
    w[0] += 1e-3
    exact, weighted = (MultiVariateGaussian(reg_covar=0).fit(x, sample_weight=v) for v in (None, w))
    assert (exact.p_value_law, weighted.p_value_law) == ("hotelling", "chi2")
    assert weighted.threshold_ == pytest.approx(exact.threshold_, rel=1e-3)


def test_the_limit_of_few_samples_does_not_depend_on_units_or_on_the_path_to_them(rng, tmp_path):
    x = images(rng, 6, c=8)
    want = MultiVariateGaussian(reg_covar=0).fit(x).threshold_
    streamed = MultiVariateGaussian(reg_covar=0).fit(1e80 * x[:3]).partial_fit(1e80 * x[3:])
    streamed.save(tmp_path / "m.npz", resumable=False)
    again = MultiVariateGaussian(reg_covar=0).fit(np.repeat(x, 2, axis=0))
    weighted = MultiVariateGaussian(reg_covar=0).fit(x, sample_weight=np.full(6, 2))
    assert streamed.threshold_ == pytest.approx(want, rel=1e-8)
    assert MultiVariateGaussian.load(tmp_path / "m.npz").threshold_ == pytest.approx(want, rel=1e-8)
    assert weighted.threshold_ == pytest.approx(again.threshold_, rel=1e-8)


def test_with_a_known_covariance_it_is_the_law_of_a_weighted_sum(rng):
    """For many samples, the weighted sum of chi-squares that a ridge makes of them, by simulation."""
    c, n = 4, 200_000
    sd = np.array([3.0, 1.0, 1.0, 0.3])
    model = MultiVariateGaussian(reg_covar=1.0).fit(rng.standard_normal((n, c)) * sd)
    weights = sd**2 / (sd**2 + 1)
    drawn = rng.standard_normal((1_000_000, c)) ** 2 @ weights
    assert np.mean(drawn > model.threshold_**2) == pytest.approx(0.05, rel=0.05)


@pytest.mark.parametrize("n", [6, 30])
def test_streamed_merged_and_loaded_models_have_the_same_default_limit(rng, tmp_path, n):
    x = images(rng, n, c=8)
    whole = MultiVariateGaussian().fit(x)
    streamed = MultiVariateGaussian()
    for part in np.array_split(x, 3):
        streamed.partial_fit(part)
    merged = MultiVariateGaussian().fit(x[:3]).merge(MultiVariateGaussian().fit(x[3:]))
    whole.save(tmp_path / "all.npz")
    merged.save(tmp_path / "few.npz", resumable=False)
    loaded = [MultiVariateGaussian.load(tmp_path / f"{name}.npz") for name in ("all", "few")]
    for model in (streamed, merged, *loaded):
        assert model.threshold_ == pytest.approx(whole.threshold_, rel=1e-8)
        with pytest.warns(DefaultThresholdWarning):
            model.predict(x)


def test_a_weight_counts_in_the_default_limit_as_often_as_the_sample_is_there(rng):
    x, w = images(rng, 9), rng.integers(0, 4, 9, np.intp)
    weighted = MultiVariateGaussian().fit(x, sample_weight=w)
    assert weighted.threshold_ == pytest.approx(
        MultiVariateGaussian().fit(np.repeat(x, w, axis=0)).threshold_
    )


@pytest.mark.parametrize("reg_covar", [0.01, 0])
@pytest.mark.parametrize("n", [20, 4])
def test_patches_that_never_change_leave_the_limit_to_the_others(rng, n, reg_covar):
    model = MultiVariateGaussian(reg_covar=reg_covar, shrinkage=0.0)  # which has no exact law
    x = np.array(images(rng, n))
    alone = model.fit(x[..., 1:]).threshold_
    x[..., 0] = 7.0
    assert model.fit(x).threshold_ == pytest.approx(alone)
    assert MultiVariateGaussian().fit(np.ones((9, 3))).threshold_ >= 0


@pytest.mark.parametrize(("c", "reg_covar"), [(10, 0), (4, 1e-16)])
def test_features_that_never_change_say_nothing_of_the_limit(rng, c, reg_covar):
    x = rng.standard_normal((10, 3, c))
    more = np.concatenate([x, np.full((10, 3, 20), 0.3)], axis=-1)
    want, got = (
        MultiVariateGaussian(reg_covar=reg_covar, feature_axis=-1).fit(e).threshold_ for e in (x, more)
    )
    assert got == pytest.approx(want)


def test_of_parameters_alone_it_is_that_of_chi_squared():
    model = MultiVariateGaussian.from_parameters(np.zeros((3, 2)), np.stack([np.eye(3)] * 2))
    assert model.threshold_ == pytest.approx(math.sqrt(stats.chi2.isf(0.025, 3)), rel=1e-4)


# ---------------------------------------------------------------------------------------------------------
# warnings and remedies


def test_few_samples_without_shrinkage_warn_once(rng):
    x = images(rng, 5, c=5)
    with pytest.warns(FewSamplesWarning, match=r"5 samples of 5 features.*leave_one_out.*'oas'") as caught:
        MultiVariateGaussian().fit(x)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        MultiVariateGaussian(shrinkage="oas").fit(x)
        MultiVariateGaussian().fit(x[:, :4])
        warnings.simplefilter("ignore", FewSamplesWarning)
        MultiVariateGaussian().fit(x)


def of_parts(x):
    """Return models that come to few samples by and by."""
    streamed = MultiVariateGaussian()
    for part in x[:2], x[2:]:
        streamed.partial_fit(part)
    merged = MultiVariateGaussian().partial_fit(x[:2]).merge(MultiVariateGaussian().partial_fit(x[2:]))
    return {"streamed": streamed, "merged": merged}


@pytest.mark.parametrize("name", ["streamed", "merged"])
@pytest.mark.parametrize("use", ["mahalanobis", "predict", "rank", "inv_covariance", "diagnostics", "save"])
def test_few_samples_that_came_in_parts_warn_once_at_the_first_use(rng, tmp_path, name, use):
    x = images(rng, 5, c=5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = of_parts(x)[name]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            if use == "save":
                model.save(tmp_path / "m.npz", resumable=False)
            elif use in ("mahalanobis", "predict"):
                getattr(model, use)(x)
            elif callable(getattr(model, use)):
                getattr(model, use)()
    few = [w for w in caught if w.category is FewSamplesWarning]
    assert len(few) == 1
    assert few[0].filename == __file__


@pytest.mark.filterwarnings("error")
def test_few_samples_do_not_warn_before_they_are_used_nor_where_they_are_enough_or_calibrated(rng, tmp_path):
    x = images(rng, 5, c=5)
    model = of_parts(x)["streamed"]
    model.save(tmp_path / "m.npz")
    model.partial_fit(images(rng, 1, c=5)).mahalanobis(x)
    MultiVariateGaussian.load(tmp_path / "m.npz").calibrate(x).mahalanobis(x)
    MultiVariateGaussian(shrinkage="oas").partial_fit(x).mahalanobis(x)
    with pytest.raises(FewSamplesWarning):
        MultiVariateGaussian.load(tmp_path / "m.npz").mahalanobis(x)


@pytest.mark.filterwarnings("error")
def test_a_warning_that_is_an_error_leaves_the_model_as_it_was(rng):
    model = MultiVariateGaussian().fit(images(rng, 9, c=5))
    before = model.mean
    with pytest.raises(FewSamplesWarning):
        model.fit(images(rng, 5, c=5))
    np.testing.assert_array_equal(model.mean, before)


@pytest.mark.parametrize("shape", [(9, 6, 5, 3), (9, 6, 5, 4), (9, 6, 3)])
@pytest.mark.parametrize("axis", [1, -1])
def test_pictures_in_place_of_embeddings_warn(rng, shape, axis):
    x = frozen(rng.integers(0, 256, shape), np.uint8)
    model = MultiVariateGaussian(feature_axis=axis)
    with pytest.warns(PictureWarning, match="look like pictures"):
        model.fit(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(x.astype(np.float32)).mahalanobis(x)
        model.fit(frozen(rng.integers(0, 256, (9, 3, 4, 5)), np.uint8))
        model.fit(frozen(rng.integers(0, 256, (9, 3)), np.uint8))


@pytest.mark.parametrize(
    ("axis", "shape", "hint"),
    [
        (1, (4, 5, 6, 3), "set feature_axis=-1"),
        (-1, (4, 3, 5, 6), "set feature_axis=1"),
        (1, (4, 3, 6, 5), "resize pictures as when fitting"),
        (1, (4, 3, 7, 9), "resize pictures as when fitting"),
        (1, (3, 5, 6), r"embedding\[None\]"),
        (1, (4, 2, 5, 6), "X has 2 features"),
    ],
)
def test_an_embedding_of_another_shape_is_refused_with_one_remedy(rng, axis, shape, hint):
    x = images(rng, 9, grid=(5, 6))
    model = MultiVariateGaussian(feature_axis=axis).fit(x if axis == 1 else np.moveaxis(x, 1, -1))
    remedies = ("feature_axis=", "resize", "[None]", "X has")
    with pytest.raises(ValueError, match=hint) as caught:
        model.mahalanobis(np.zeros(shape))
    assert sum(remedy in str(caught.value) for remedy in remedies) == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_held_out_images_with_numbers_that_are_not_finite_are_refused_for_that(rng, bad):
    x = np.array(images(rng, 20))
    model = MultiVariateGaussian().fit(x)
    x[3, 1, 0, 1], x[5, 1, 0, 1] = bad, -bad
    with pytest.raises(ValueError, match=r"finite numbers, got .* at index \(3, 1, 0, 1\)"):
        model.threshold(x, 0.1)
