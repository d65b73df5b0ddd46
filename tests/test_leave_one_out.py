"""Laws of leave-one-out distances: a sample is as far as from the model that is fitted without it."""

import tracemalloc

import numpy as np
import pytest
import scipy.stats
from common import block_sizes, blocks_of, fires, frozen, quietly, seeds, simulated
from hypothesis import given, settings
from hypothesis import strategies as st

from mvgauss import MultiVariateGaussian
from mvgauss.testing import svd_gaussian


def refitted(x, w=None, *, shrinkage=None, reg_covar=0.01, ddof=1):
    """Score each sample from those that are left, by their mean and (1 - rho) S plus the floor of all."""
    counts = np.ones(len(x)) if w is None else np.asarray(w, float)
    whole = MultiVariateGaussian(shrinkage=shrinkage, reg_covar=reg_covar, ddof=ddof)
    rho = quietly(whole.fit, x, sample_weight=w).diagnostics()["shrinkage"].ravel()
    trace = np.trace(
        quietly(MultiVariateGaussian(reg_covar=0, ddof=ddof).fit, x, None, w).covariance, 0, 1, 2
    )
    floor = reg_covar + rho * trace / x.shape[1]
    flat = np.reshape(x, (*x.shape[:2], -1))
    result = np.empty((len(x), flat.shape[2]))
    for i, p in np.ndindex(result.shape):
        left = np.delete(flat[:, :, p], i, axis=0)
        # a distance from (1 - rho) S + floor I is that from S + floor / (1 - rho) I, over sqrt(1 - rho)
        share = max(1 - rho[p], 1e-300)
        g = svd_gaussian(left, np.delete(counts, i), ddof, floor[p] / share)
        result[i, p] = g.mahalanobis(flat[i : i + 1, :, p])[0] / np.sqrt(share)
    return result.reshape(len(x), *x.shape[2:])


@st.composite
def left_out(draw):
    """Draw samples (N, C, 2), weights or None, and options: N above and below C, deficient features."""
    n, c, rng = draw(st.integers(3, 12)), draw(st.integers(1, 14)), np.random.default_rng(draw(seeds))
    x = rng.standard_normal((n, c, 2)) + draw(st.sampled_from([0.0, 10.0]))
    if draw(st.booleans()):
        x[:, 0, 0] = 3
    if draw(st.booleans()) and c > 2:
        x[:, 1, 1] = x[:, 2, 1]
    options = {
        "ddof": draw(st.sampled_from([0, 1, 0.5])),
        "reg_covar": draw(st.sampled_from([0, 0.01, 1.0])),
        "shrinkage": draw(st.sampled_from([None, None, 0.0, 0.25, 1.0, "oas", "ledoit_wolf"])),
    }
    w = None
    if draw(st.booleans()):
        w = rng.uniform(1, 3, n) if draw(st.booleans()) else rng.integers(1, 4, n)
    return frozen(x), None if w is None else frozen(w), options


@pytest.mark.filterwarnings("ignore::mvgauss.ConstantPatchWarning")
@given(left_out(), block_sizes)
@settings(max_examples=4 * settings.default.max_examples)
def test_leaving_one_out_is_refitting_without_it(case, size):
    x, w, options = case
    model = MultiVariateGaussian(**options).fit(x, sample_weight=w)
    with blocks_of(size):
        got = model.leave_one_out(x, sample_weight=w)
    want = refitted(x, w, **options)
    np.testing.assert_allclose(got, want, rtol=1e-8, atol=1e-7 if not options["reg_covar"] else 1e-10)


@pytest.mark.parametrize("options", [{}, {"shrinkage": 0.3, "reg_covar": 0}, {"reg_covar": 0}], ids=str)
@pytest.mark.parametrize("n", [3, 7, 40])
def test_leaving_one_out_is_refitting_in_single_precision(rng, options, n):
    x = frozen(rng.standard_normal((n, 6, 2)), np.float32)
    model = MultiVariateGaussian(**options).fit(x)
    got = model.leave_one_out(x)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, refitted(x.astype(float), **options), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("n", [6, 30])
def test_an_outlier_in_a_feature_of_a_small_unit_is_left_out_as_in_a_large_one(rng, n):
    units, x = np.array([100, 100, 1e-6, 100])[:, None], rng.standard_normal((n, 4, 1))
    x[0, 2] = 1000
    got = MultiVariateGaussian(reg_covar=0).fit(x * units).leave_one_out(x * units)
    np.testing.assert_allclose(got, refitted(x, reg_covar=0), rtol=1e-8)
    assert got[0] > 100


@pytest.mark.filterwarnings("ignore::mvgauss.FewSamplesWarning")
@pytest.mark.parametrize(("n", "c"), [(6, 5), (30, 29), (30, 30)])
def test_a_sample_that_alone_spans_a_direction_is_refitted_however_small_that_is(rng, n, c):
    axes = np.linalg.qr(rng.standard_normal((c, c)))[0] * np.geomspace(1, 1e-6, c)[:, None]
    x = frozen(rng.standard_normal((n, c)) @ axes)[..., None]
    got = MultiVariateGaussian(reg_covar=0).fit(x).leave_one_out(x)
    np.testing.assert_allclose(got, refitted(x, reg_covar=0), rtol=0.05)


@pytest.mark.filterwarnings("ignore::mvgauss.ConstantPatchWarning")
@pytest.mark.parametrize("shrinkage", [None, 0.0, 0.3, 1.0])
@pytest.mark.parametrize("reg_covar", [0, 0.5])
@pytest.mark.parametrize("n", [2, 3, 5])
def test_constant_patches_and_twins_are_left_out_as_by_refitting(rng, shrinkage, reg_covar, n):
    x = rng.standard_normal((n, 3, 3))
    x[:, :, 0] = 0.1  # nothing varies
    x[1:, :, 1] = x[1:2, :, 1]  # nothing varies without the first
    options = {"shrinkage": shrinkage, "reg_covar": reg_covar, "ddof": 0}
    got = MultiVariateGaussian(**options).fit(x).leave_one_out(x)
    np.testing.assert_allclose(got, refitted(x, **options), rtol=1e-8, atol=1e-6)


def test_leave_one_out_distances_follow_the_law_of_new_samples_of_one_fewer(rng):
    n, c = 20, 4
    model, train, _ = simulated(rng, n=n, c=c, patches=4000, reg_covar=0)
    d2 = model.leave_one_out(train)[0] ** 2  # one sample of each fit: independent
    p = scipy.stats.f.sf(d2 * (n - 1) * (n - 1 - c) / (c * n * (n - 2)), c, n - 1 - c)
    for level in (0.01, 0.1, 0.5):
        fires(p, level)


@pytest.mark.parametrize("layout", ["pictures", "tokens", "table"])
def test_leave_one_out_has_the_layout_of_scores_and_the_order_of_the_samples(rng, train, layout):
    x, axis = {
        "pictures": (train, 1),
        "tokens": (np.moveaxis(train.reshape(30, 4, 6), 1, 2), -1),
        "table": (train[:, :, 0, 0], 1),
    }[layout]
    model = MultiVariateGaussian(feature_axis=axis).fit(x)
    order = rng.permutation(30)
    got = model.leave_one_out(x)
    assert got.shape == model.mahalanobis(x).shape
    np.testing.assert_allclose(model.leave_one_out(x[order]), got[order], rtol=1e-12)
    assert (got >= model.mahalanobis(x) * (1 - 1e-12)).all()


def test_leave_one_out_works_on_streamed_merged_and_loaded_models(train, tmp_path):
    want = MultiVariateGaussian().fit(train).leave_one_out(train)
    model = MultiVariateGaussian().partial_fit(train[:7]).partial_fit(train[7:20])
    model.merge(MultiVariateGaussian().partial_fit(train[20:])).save(tmp_path / "m")
    got = MultiVariateGaussian.load(tmp_path / "m").leave_one_out(train)
    np.testing.assert_allclose(got, want, rtol=1e-11)


@pytest.mark.parametrize("c", [3, 70], ids=["a square", "rows"])
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_samples_far_from_zero_are_the_samples_that_were_fitted(rng, c, streamed):
    """What rounding leaves of a large mean is no other sample."""
    x = 1e-3 * rng.standard_normal((30, c, 2)) + 1e12
    model = MultiVariateGaussian()
    if streamed:
        for i in range(30):
            model.partial_fit(x[i : i + 1])
    else:
        model.fit(x)
    assert np.isfinite(model.leave_one_out(x)).all()
    with pytest.raises(ValueError, match="embedding: expected the 30 samples that were fitted"):
        model.leave_one_out(x + 1)


def test_samples_that_were_not_fitted_are_refused(train):
    model = MultiVariateGaussian().fit(train)
    w = frozen(np.linspace(1, 2, 30))
    weighted = MultiVariateGaussian().fit(train, sample_weight=w)
    for call, message in (
        (
            lambda: model.leave_one_out(train[:-1]),
            "embedding: expected the 30 samples that were fitted, .*29",
        ),
        (lambda: model.leave_one_out(np.concatenate([train, train])), "embedding: expected the 30 samples"),
        (lambda: model.calibrate(train[:3]), "embedding: expected the 30 samples"),
        (lambda: model.threshold(train[:3], 0.5, source="training"), "embedding: expected the 30 samples"),
        (lambda: model.leave_one_out(train, sample_weight=2 * np.ones(30)), "embedding: expected the 30 "),
        (lambda: weighted.leave_one_out(train), "sample_weight: expected the weights .* got None"),
        (lambda: weighted.leave_one_out(train, sample_weight=2 * w), "embedding: expected the 30 samples"),
        (lambda: weighted.leave_one_out(train, sample_weight=w[::-1]), "embedding: expected the 30 samples"),
        (lambda: weighted.leave_one_out(train, sample_weight=w[1:]), "sample_weight: expected shape"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    np.testing.assert_allclose(weighted.leave_one_out(train, sample_weight=w), refitted(train, w), rtol=1e-8)


@pytest.mark.parametrize("other", ["shifted", "shuffled features", "another set"])
def test_other_samples_of_the_same_number_are_refused(rng, train, other):
    x = {
        "shifted": train + 1,
        "shuffled features": train[:, ::-1],
        "another set": rng.standard_normal(train.shape),
    }[other]
    for unit in (1, 1e-6):
        model = MultiVariateGaussian().fit(unit * train)
        with pytest.raises(ValueError, match="embedding: expected the 30 samples that were fitted"):
            model.leave_one_out(unit * x)


@pytest.mark.parametrize(("n", "ddof"), [(2, 1), (1, 0), (3, 2)])
def test_too_few_samples_to_leave_one_out_are_refused(rng, n, ddof):
    x = rng.standard_normal((n, 3, 2))
    model = MultiVariateGaussian(ddof=ddof).fit(x)
    with pytest.raises(ValueError, match=f"embedding: expected more than ddof = {ddof} samples besides each"):
        model.leave_one_out(x)


def test_a_sample_of_zero_weight_is_left_out_at_no_cost(rng):
    x, w = rng.standard_normal((12, 3, 2)), np.arange(12.0)
    model = MultiVariateGaussian().fit(x, sample_weight=w)
    got = model.leave_one_out(x, sample_weight=w)
    np.testing.assert_allclose(got, refitted(x, w), rtol=1e-8)
    np.testing.assert_allclose(got[0], model.mahalanobis(x)[0], rtol=1e-12)


@pytest.mark.parametrize("c", [2, 8], ids=["a square", "rows"])
@pytest.mark.parametrize("image", [0, 3])
def test_a_distance_beyond_the_range_is_refused_at_whichever_image_and_patch(rng, c, image):
    x = rng.standard_normal((5, c, 3))
    x[:, 1] = 0
    x[image, 1, 1] = 1e5  # without this image nothing but the ridge is there
    model = MultiVariateGaussian(reg_covar=1e-300).fit(frozen(x))
    with pytest.raises(ValueError, match="embedding: expected numbers whose squares float64 can hold"):
        model.leave_one_out(frozen(x))


def test_many_different_weights_take_little_memory(rng):
    """One factor for each weight, but not all at once."""
    x, w = frozen(rng.standard_normal((400, 30, 32))), frozen(rng.uniform(0.5, 2, 400))
    model = MultiVariateGaussian(n_jobs=1).fit(x, sample_weight=w)
    tracemalloc.start()
    try:
        model.leave_one_out(x, w)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * x.nbytes
