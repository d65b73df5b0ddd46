"""Laws of what distances mean: densities, p-values, leave-one-out, limits, contributions, diagnostics."""

import math
from fractions import Fraction

import numpy as np
import pytest
import scipy.stats
from common import EPS, assert_within, block_sizes, blocks_of, frozen, gaussians, seeds
from hypothesis import given, settings
from hypothesis import strategies as st

from mvgauss import MultiVariateGaussian, _distributions


@pytest.fixture
def train(rng):
    return frozen(rng.standard_normal((30, 4, 2, 3)) + 2)


@pytest.fixture
def test(rng):
    return frozen(1.5 * rng.standard_normal((7, 4, 2, 3)) + 2)


@pytest.fixture
def model(train):
    return MultiVariateGaussian().fit(train)


# ---------------------------------------------------------------------------------------------------------
# densities


def scipy_logpdf(model, x):
    """Loop SciPy's log density over the patches of ``(M, C, P)`` data."""
    return np.array(
        [
            scipy.stats.multivariate_normal(model.mean[:, p], s, allow_singular=True).logpdf(x[:, :, p])
            for p, s in enumerate(model.covariance)
        ]
    ).T.reshape(len(x), -1)


@given(
    seeds,
    st.integers(2, 20),
    st.integers(1, 6),
    st.sampled_from([1e-3, 1.0, 1e3]),
    st.sampled_from([{}, {"shrinkage": "oas"}, {"ddof": 0}]),
    block_sizes,
)
def test_the_log_density_is_that_of_scipy(seed, n, c, scale, options, size):
    rng = np.random.default_rng(seed)
    train, test = (scale * (rng.standard_normal((k, c, 3)) + 1) for k in (n, 4))
    with blocks_of(size):
        model = MultiVariateGaussian(**options, reg_covar=0.1 * scale**2).fit(train)
        got = model.score_samples(test)
    np.testing.assert_allclose(got, scipy_logpdf(model, test), rtol=1e-9, atol=1e-9)


def test_log_densities_may_be_positive():
    model = MultiVariateGaussian(reg_covar=0).fit(1e-3 * np.array([[-1.0], [1.0], [0.0]]))
    assert model.score_samples([[0.0]]) == pytest.approx(-0.5 * math.log(2 * math.pi * 1e-6))


@pytest.fixture
def flat(rng):
    """Four patches in five dimensions: of full rank, a constant feature, a plane, and a point."""
    train = rng.standard_normal((20, 5, 4))
    train[:, 2, 1] = 7
    basis = np.linalg.qr(rng.standard_normal((5, 5)))[0]
    train[:, :, 2] = rng.standard_normal((20, 2)) @ basis[:2] + 3
    train[:, :, 3] = [1, 2, 3, 4, 5]
    return frozen(train), basis


def test_the_density_of_a_singular_patch_is_that_on_its_support(flat):
    train, basis = flat
    model = MultiVariateGaussian(reg_covar=0).fit(train)
    assert model.rank.tolist() == [5, 4, 2, 0]
    test = train[:3] + 0
    test[:, 0] += [0.5, 0.5, 0, 0]  # stays in the supports of the first two
    test[:, :, 2] += basis[0] - basis[1]
    got = model.score_samples(test)
    assert np.isfinite(got).all()
    np.testing.assert_allclose(got[:, :3], scipy_logpdf(model, test)[:, :3], rtol=1e-9)
    np.testing.assert_array_equal(got[:, 3], 0)  # a point has density one there, of dimension none


def test_the_density_off_the_support_is_zero_and_the_neighbours_keep_theirs(flat):
    train, basis = flat
    model = MultiVariateGaussian(reg_covar=0).fit(train)
    test = train[:3] + 0
    before = model.score_samples(test)
    test[1, 2, 1] += 1e-3
    test[1, :, 2] += 1e-3 * basis[4]
    test[1, :, 3] += 1e-3
    got = model.score_samples(test)
    assert np.isneginf(got[1, 1:]).all()
    assert np.isneginf(scipy_logpdf(model, test)[1, 1:]).all()
    np.testing.assert_array_equal(np.delete(got, 1, axis=0), np.delete(before, 1, axis=0))
    assert got[1, 0] == before[1, 0]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("side", [0.5, 2.0])
def test_the_tolerance_of_the_support_is_the_stated_one(rng, dtype, scale, side):
    """sqrt(C eps) times the larger of |x - mean| and the largest standard deviation."""
    c, sizes = 3, np.array([1.0, 0.25, 0.0])
    x = np.concatenate([np.eye(c), -np.eye(c)]) * sizes * scale
    model = MultiVariateGaussian(reg_covar=0, ddof=0).fit(x.astype(dtype))
    largest = math.sqrt(2 / 6) * scale
    tolerance = math.sqrt(c * float(np.finfo(dtype).eps))
    for inside in (0.0, 0.5 * largest, 30 * largest):
        off = side * tolerance * max(largest, inside)
        got = model.score_samples(np.array([[inside, 0, off]], dtype))
        assert np.isneginf(got).all() == (side > 1)


def test_a_density_of_parameters_is_that_of_their_model(model, test):
    again = MultiVariateGaussian.from_parameters(*model)
    np.testing.assert_allclose(again.score_samples(test), model.score_samples(test), rtol=1e-10)
    singular = MultiVariateGaussian.from_parameters(np.zeros((2, 1)), [np.diag([4.0, 0.0])])
    got = singular.score_samples([[[1.0], [0.0]], [[1.0], [1.0]]])
    assert got[0, 0] == pytest.approx(scipy.stats.norm.logpdf(1, scale=0.5))
    assert got[1, 0] == -np.inf


def test_an_identity_of_given_size_has_the_standard_density():
    got = MultiVariateGaussian(3, 2).score_samples(np.ones((1, 3, 2)))
    np.testing.assert_allclose(got, [[-1.5 * math.log(2 * math.pi) - 1.5] * 2], rtol=1e-6)


def test_scores_have_the_shape_of_the_grid_and_the_dtype_of_the_model(train, test):
    for dtype in (np.float32, np.float64):
        model = MultiVariateGaussian().fit(train.astype(dtype))
        for score in (model.mahalanobis, model.score_samples, model.p_value):
            assert score(test).shape == (7, 2, 3)
            assert score(test).dtype == dtype
        want = MultiVariateGaussian().fit(train).score_samples(test)
        np.testing.assert_allclose(model.score_samples(test), want, rtol=1e-4)


# ---------------------------------------------------------------------------------------------------------
# p-values and their laws

#: Half the width of a band that a fair binomial leaves once in a million.
SIGMAS = 5.0


def fires(p_values, level):
    """Assert that p-values are at most `level` as often as they should be, up to binomial noise."""
    rate = float((p_values <= level).mean())
    noise = SIGMAS * math.sqrt(level * (1 - level) / p_values.size)
    assert abs(rate - level) < noise, f"fires {rate:.4f} of the time at {level}"


def simulated(rng, *, n=20, c=4, patches=4000, **options):
    """Fit n samples of c features on many patches, each an experiment; return the model and new samples."""
    mix = rng.standard_normal((c, c))
    train, test = (np.einsum("ij,njp->nip", mix, rng.standard_normal((k, c, patches))) for k in (n, 1))
    return MultiVariateGaussian(**options).fit(train), train, test


@pytest.mark.parametrize("ddof", [0, 1, 2.5])
def test_p_values_are_uniform_under_the_model(rng, ddof):
    """One new sample for each fit: the values are independent."""
    model, _, test = simulated(rng, reg_covar=0, ddof=ddof, patches=20_000)
    assert model.p_value_law == "hotelling"
    p = model.p_value(test).ravel()
    for level in (0.001, 0.01, 0.05, 0.25, 0.5, 0.9):
        fires(p, level)
    assert scipy.stats.kstest(p, "uniform").pvalue > 1e-6


def test_the_chi_squared_limit_fires_far_too_often_where_the_exact_law_does_not(rng):
    model, _, test = simulated(rng, reg_covar=0, patches=20_000)
    d2 = model.mahalanobis(test, squared=True)
    rate = float((d2 > scipy.stats.chi2.isf(0.01, 4)).mean())
    # what the law itself says of that limit: 7.1 %
    want = scipy.stats.f.sf(20 * 16 / (4 * 21 * 19) * scipy.stats.chi2.isf(0.01, 4), 4, 16)
    assert want == pytest.approx(0.0709, abs=1e-4)
    assert abs(rate - want) < SIGMAS * math.sqrt(want * (1 - want) / d2.size)
    fires(model.p_value(test), 0.01)


@given(seeds, st.integers(2, 40), st.integers(1, 6))
def test_the_exact_p_value_is_hotellings(seed, n, c):
    rng = np.random.default_rng(seed)
    n = max(n, c + 1)
    train, test = rng.standard_normal((n, c, 2)), 3 * rng.standard_normal((5, c, 2))
    model = MultiVariateGaussian(reg_covar=0).fit(train)
    d2 = model.mahalanobis(test, squared=True)
    want = scipy.stats.f.sf(d2 * n * (n - c) / (c * (n + 1) * (n - 1)), c, n - c)
    np.testing.assert_allclose(model.p_value(test), want, rtol=1e-8, atol=1e-300)


def test_a_tiny_exact_p_value_keeps_its_digits():
    """Far out, 1 - cdf would be zero."""
    train = np.concatenate([np.eye(2), -np.eye(2)] * 15)
    model = MultiVariateGaussian(reg_covar=0).fit(train)
    d2 = model.mahalanobis([[1e3, 0.0]], squared=True)
    want = scipy.stats.f.sf(d2 * 60 * 58 / (2 * 61 * 59), 2, 58)
    assert 0 < want[0] < 1e-100
    np.testing.assert_allclose(model.p_value([[1e3, 0.0]]), want, rtol=1e-9)


@pytest.mark.parametrize("ddof", [0, 0.5, 1, 3])
def test_ddof_does_not_change_an_exact_p_value(rng, ddof):
    train, test = rng.standard_normal((12, 3, 4)), rng.standard_normal((5, 3, 4))
    want = MultiVariateGaussian(reg_covar=0, ddof=1).fit(train).p_value(test)
    got = MultiVariateGaussian(reg_covar=0, ddof=ddof).fit(train).p_value(test)
    np.testing.assert_allclose(got, want, rtol=1e-11)


def test_weights_of_one_keep_the_exact_law(rng):
    train, test = rng.standard_normal((12, 3, 4)), rng.standard_normal((5, 3, 4))
    model = MultiVariateGaussian(reg_covar=0).fit(train, sample_weight=np.ones(12))
    assert model.p_value_law == "hotelling"
    want = MultiVariateGaussian(reg_covar=0).fit(train).p_value(test)
    np.testing.assert_allclose(model.p_value(test), want, rtol=1e-11)


def test_the_exact_law_counts_the_rank_of_a_deficient_patch(rng):
    train, test = rng.standard_normal((12, 3, 2)), rng.standard_normal((5, 3, 2))
    train[:, 1, 0] = 4
    train[:, :, 1] = 4
    model = MultiVariateGaussian(reg_covar=0).fit(train)
    assert model.p_value_law == "hotelling"
    want = MultiVariateGaussian(reg_covar=0).fit(train[:, ::2, :1]).p_value(test[:, ::2, :1])
    np.testing.assert_allclose(model.p_value(test)[:, :1], want, rtol=1e-11)
    np.testing.assert_array_equal(model.p_value(test)[:, 1], 1)


def test_the_exact_law_survives_streams_files_and_merges(rng, tmp_path):
    train, test = rng.standard_normal((12, 3, 4)), rng.standard_normal((5, 3, 4))
    want = MultiVariateGaussian(reg_covar=0).fit(train)
    merged = MultiVariateGaussian(reg_covar=0).fit(train[:6])
    merged.merge(MultiVariateGaussian(reg_covar=0).fit(train[6:])).save(tmp_path / "m", resumable=False)
    got = MultiVariateGaussian.load(tmp_path / "m")
    assert got.p_value_law == "hotelling"
    np.testing.assert_allclose(got.p_value(test), want.p_value(test), rtol=1e-11)


INEXACT = {
    "ridge": ({"reg_covar": 0.01}, 12, None),
    "tiny ridge": ({"reg_covar": 1e-300}, 12, None),
    "shrinkage": ({"reg_covar": 0, "shrinkage": 0.1}, 12, None),
    "no shrinkage, but asked for": ({"reg_covar": 0, "shrinkage": 0.0}, 12, None),
    "oas": ({"reg_covar": 0, "shrinkage": "oas"}, 12, None),
    "ledoit_wolf": ({"reg_covar": 0, "shrinkage": "ledoit_wolf"}, 12, None),
    "as many samples as features": ({"reg_covar": 0}, 3, None),
    "fewer samples than features": ({"reg_covar": 0}, 2, None),
    "equal weights that are no ones": ({"reg_covar": 0}, 12, np.full(12, 0.5)),
    "samples that count twice": ({"reg_covar": 0}, 12, np.full(12, 2)),
    "unequal weights": ({"reg_covar": 0}, 12, np.linspace(1, 2, 12)),
    "almost equal weights": ({"reg_covar": 0}, 12, np.linspace(1, 1.01, 12)),
    "a zero weight": ({"reg_covar": 0}, 12, np.arange(12) > 0),
}


@pytest.mark.parametrize("case", list(INEXACT))
def test_an_approximation_never_has_the_name_of_the_exact_law(rng, tmp_path, case):
    options, n, w = INEXACT[case]
    x = frozen(rng.standard_normal((n, 3, 4)))
    model = MultiVariateGaussian(**options).fit(x, sample_weight=w)
    assert model.p_value_law == "chi2"
    want = scipy.stats.chi2.sf(model.mahalanobis(x, squared=True), model.rank)
    np.testing.assert_allclose(model.p_value(x), want, rtol=1e-9)
    model.save(tmp_path / "m", resumable=False)
    assert MultiVariateGaussian.load(tmp_path / "m").p_value_law == "chi2"
    if n > 2:
        assert model.calibrate(x, sample_weight=w).p_value_law == "leave-one-out"
        model.save(tmp_path / "m", resumable=False)
        assert MultiVariateGaussian.load(tmp_path / "m").p_value_law == "leave-one-out"


def test_parts_of_different_weight_have_no_exact_law(rng):
    x = rng.standard_normal((12, 3, 4))
    model = MultiVariateGaussian(reg_covar=0).partial_fit(x[:6]).partial_fit(x[6:], sample_weight=[2.0] * 6)
    assert model.p_value_law == "chi2"
    other = MultiVariateGaussian(reg_covar=0).partial_fit(x[:6])
    other.merge(MultiVariateGaussian(reg_covar=0).partial_fit(x[6:], sample_weight=[2.0] * 6))
    assert other.p_value_law == "chi2"


def test_parameters_and_identities_have_no_exact_law(model):
    assert MultiVariateGaussian.from_parameters(*model).p_value_law == "chi2"
    assert MultiVariateGaussian(3, 2).p_value_law == "chi2"
    np.testing.assert_allclose(
        MultiVariateGaussian(3, 1).p_value(np.ones((1, 3, 1))), [[scipy.stats.chi2.sf(3, 3)]], rtol=1e-6
    )


def test_a_point_is_as_good_as_any_under_chi_squared(rng):
    model = MultiVariateGaussian(reg_covar=0).fit(np.ones((2, 3, 1)))
    assert model.p_value_law == "chi2"
    np.testing.assert_array_equal(model.p_value(np.ones((1, 3, 1))), 1)


@pytest.mark.parametrize(("c", "close"), [(4, 0.04), (30, 0.15)])
def test_ranks_among_leave_one_out_distances_are_close_to_uniform_and_never_fire_too_often(rng, c, close):
    """With a ridge, where no law exists: closer with more samples than features, safe with fewer."""
    model, train, test = simulated(rng, n=20, c=c, patches=4000)
    p = model.calibrate(train).p_value(test)
    assert model.p_value_law == "leave-one-out"
    assert p.min() >= 1 / 21
    for level in (1 / 21, 2 / 21, 5 / 21, 10 / 21, 16 / 21):
        rate = float((p <= level * (1 + 1e-9)).mean())
        noise = SIGMAS * math.sqrt(level * (1 - level) / p.size)
        assert level - close - noise < rate < level + noise


def test_chi_squared_is_no_law_for_few_samples_with_a_ridge(rng):
    model, _, test = simulated(rng, n=20, c=30, patches=1000)
    assert not 0.001 < (model.p_value(test) <= 0.01).mean() < 0.1


def test_a_rank_counts_the_good_distances_that_are_as_large(train, test):
    model = MultiVariateGaussian().fit(train)
    good = model.leave_one_out(train)
    p, d = model.calibrate(train).p_value(test), model.mahalanobis(test)
    for m, h, w in np.ndindex(d.shape):
        assert p[m, h, w] == pytest.approx((1 + (good[:, h, w] >= d[m, h, w]).sum()) / 31, rel=1e-14)
    assert (p >= 1 / 31).all()
    assert model.p_value(test + 1e3).max() == pytest.approx(1 / 31)


def test_a_tie_counts_as_as_large():
    good, d = np.array([[1.0, 2.0, 2.0, 3.0]]), np.array([[0.5, 1.0, 2.0, 2.5, 3.0, 4.0]])
    want = np.array([[5, 5, 4, 2, 2, 1]]) / 5
    np.testing.assert_array_equal(_distributions.rank_among(d, good), want)


# ---------------------------------------------------------------------------------------------------------
# leave-one-out


def refitted(x, w=None, **options):
    """Fit again without each sample, and score it."""
    out = []
    for i in range(len(x)):
        rest = np.delete(x, i, axis=0)
        v = None if w is None else np.delete(w, i)
        out.append(MultiVariateGaussian(**options).fit(rest, sample_weight=v).mahalanobis(x[i : i + 1])[0])
    return np.array(out)


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


@given(left_out(), block_sizes)
@settings(max_examples=150)
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


@pytest.mark.parametrize("scale", [1e-2, 1.0, 1e3, 1e4])
@pytest.mark.parametrize("n", [6, 30])
def test_leaving_one_out_keeps_a_ridge_that_is_small_against_the_features(rng, scale, n):
    """A sample alone in a direction is far away by the ridge, however small the ridge is."""
    x = frozen(scale * rng.standard_normal((n, 12, 2)))
    got = MultiVariateGaussian().fit(x).leave_one_out(x)
    # both sides lose eps times the condition number
    condition = max(1.0, 400 * scale**2 / 0.01)
    np.testing.assert_allclose(got, refitted(x), rtol=1e-8 + 100 * EPS * condition)


@pytest.mark.parametrize("reg_covar", [0, 0.01])
def test_leaving_out_an_outlier_leaves_it_where_it_is(rng, reg_covar):
    x = rng.standard_normal((20, 3, 1))
    x[4, 1] = 1e3
    got = MultiVariateGaussian(reg_covar=reg_covar).fit(x).leave_one_out(x)
    np.testing.assert_allclose(got, refitted(x, reg_covar=reg_covar), rtol=1e-8)
    assert got[4] > 500


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


def test_leaving_one_out_has_pennys_closed_form(rng):
    """Penny (1996): d'^2 = n^2 (n-2) d^2 / ((n-1) ((n-1)^2 - n d^2))."""
    n, x = 15, rng.standard_normal((15, 4, 3))
    model = MultiVariateGaussian(reg_covar=0).fit(x)
    d2 = model.mahalanobis(x, squared=True)
    want = np.sqrt(n**2 * (n - 2) * d2 / ((n - 1) * ((n - 1) ** 2 - n * d2)))
    np.testing.assert_allclose(model.leave_one_out(x), want, rtol=1e-10)


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


@pytest.mark.parametrize("shrinkage", ["oas", "ledoit_wolf"])
@pytest.mark.parametrize("n", [5, 30], ids=["rows", "a triangle"])
def test_an_estimated_shrinkage_is_estimated_without_the_sample(rng, shrinkage, n):
    x = rng.standard_normal((n, 9, 2)) * np.linspace(1, 4, 9)[:, None]
    x[0] *= 5
    model = MultiVariateGaussian(shrinkage=shrinkage).fit(x)
    got = model.leave_one_out(x)
    want = np.array([g.leave_one_out() for g in gaussians(x, shrinkage=shrinkage)]).T
    np.testing.assert_allclose(got, want, rtol=1e-9)
    fixed = MultiVariateGaussian(shrinkage=float(model.diagnostics()["shrinkage"][0])).fit(x)
    assert not np.allclose(got[0, 0], fixed.leave_one_out(x)[0, 0], rtol=1e-6)
    assert model.calibrate(x).p_value_law == "leave-one-out"
    limit = np.sort(largest(got))[math.ceil((n + 1) * 0.75) - 1]
    assert model.threshold(x, 0.25, source="training") == limit


@pytest.mark.parametrize("c", [3, 40], ids=["a triangle", "rows"])
def test_a_feature_that_is_zero_everywhere_leaves_the_samples_theirs(rng, c):
    x = rng.standard_normal((12, c, 2))
    x[:, 1] = 0
    np.testing.assert_allclose(MultiVariateGaussian().fit(x).leave_one_out(x), refitted(x), rtol=1e-8)


@pytest.mark.parametrize("c", [3, 70], ids=["a triangle", "rows"])
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
        (lambda: model.diagnostics(train[:3]), "embedding: expected the 30 samples"),
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
    model = MultiVariateGaussian().fit(train)
    with pytest.raises(ValueError, match="embedding: expected the 30 samples that were fitted"):
        model.leave_one_out(x)


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
    np.testing.assert_array_equal(model.decision_function(test), limit - d)
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


def test_without_a_limit_one_percent_of_the_exact_law_is_shared_by_the_patches(train):
    model = MultiVariateGaussian(reg_covar=0).fit(train)
    n, c, patches = 30, 4, 6
    f = scipy.stats.f.isf(0.01 / patches, c, n - c)
    assert model.threshold_ == pytest.approx(math.sqrt(f * c * (n + 1) * (n - 1) / (n * (n - c))), rel=1e-9)
    for ddof in (0, 2):
        other = MultiVariateGaussian(reg_covar=0, ddof=ddof).fit(train)
        np.testing.assert_array_equal(other.predict(1.5 * train), model.predict(1.5 * train))


@pytest.mark.parametrize("reg_covar", [0, 1e-9], ids=["exact", "by moments"])
def test_the_default_limit_of_one_feature_and_of_constants(rng, reg_covar):
    one = MultiVariateGaussian(reg_covar=reg_covar).fit(rng.standard_normal((12, 1, 2)))
    want = scipy.stats.f.isf(0.005, 1, 11) * 13 / 12
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
    want = pytest.approx(math.sqrt(scipy.stats.chi2.isf(0.005, 3)))
    assert MultiVariateGaussian(3, 2).threshold_ == want
    assert MultiVariateGaussian(ddof=0).fit(rng.standard_normal((1, 3, 2))).threshold_ == want


def test_the_default_limit_is_kept_by_good_images(rng):
    wrong = []
    for _ in range(60):
        train, new = rng.standard_normal((20, 3, 5)), rng.standard_normal((200, 3, 5))
        wrong.append((MultiVariateGaussian(reg_covar=0, n_jobs=1).fit(train).predict(new) < 0).mean())
    assert 0 < np.mean(wrong) < 0.01 + SIGMAS * np.std(wrong) / math.sqrt(60)


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


# ---------------------------------------------------------------------------------------------------------
# contributions


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("layout", ["pictures", "flat", "tokens", "channels last", "table"])
def test_contributions_sum_to_the_squared_distance_in_any_layout(rng, dtype, layout):
    shape, axis = {
        "pictures": ((9, 4, 2, 3), 1),
        "flat": ((9, 4, 6), 1),
        "tokens": ((9, 6, 4), -1),
        "channels last": ((9, 2, 3, 4), -1),
        "table": ((9, 4), 1),
    }[layout]
    train, test = frozen(rng.standard_normal(shape), dtype), frozen(rng.standard_normal(shape)[:5], dtype)
    model = MultiVariateGaussian(feature_axis=axis).fit(train)
    got = model.contributions(test)
    assert got.shape == test.shape
    assert got.dtype == dtype
    d2 = model.mahalanobis(test, squared=True)
    bound = 64 * float(np.finfo(dtype).eps) * np.abs(got).sum(axis=axis)
    assert_within(got.sum(axis=axis), d2, bound)
    # by the definition: (x - mean)_j [P (x - mean)]_j
    x, p = np.moveaxis(test, axis, 1).reshape(5, 4, -1).astype(float), model.inv_covariance.astype(float)
    z = x - MultiVariateGaussian(feature_axis=axis).fit(train.astype(float)).mean
    want = z * np.einsum("pij,njp->nip", p, z)
    flat = np.moveaxis(got, axis, 1).reshape(want.shape)
    np.testing.assert_allclose(flat, want, rtol=0, atol=1e3 * float(np.finfo(dtype).eps) * np.abs(want).max())


def test_independent_features_contribute_their_own_squares():
    x = np.concatenate([np.eye(3), -np.eye(3)]) * [1.0, 2.0, 4.0]
    model = MultiVariateGaussian(reg_covar=0, ddof=0).fit(x)
    got = model.contributions([[1.0, 2.0, 0.0], [0.0, 0.0, 12.0]])
    np.testing.assert_allclose(got, [[3, 3, 0], [0, 0, 27]], rtol=1e-14)


def test_a_contribution_may_be_negative(rng):
    x = rng.standard_normal((50, 1)) + 0.1 * rng.standard_normal((50, 2))
    assert MultiVariateGaussian().fit(x).contributions([[3.0, 2.0]]).min() < 0


# ---------------------------------------------------------------------------------------------------------
# diagnostics


def test_diagnostics_are_maps_of_these_names(train):
    model = MultiVariateGaussian().fit(train)
    few, all_ = model.diagnostics(), model.diagnostics(train)
    assert list(few) == ["rank", "condition", "effective_samples", "shrinkage"]
    assert list(all_) == [*few, "kurtosis", "kurtosis_expected"]
    assert {a.shape for a in all_.values()} == {(2, 3)}
    for name in few:
        np.testing.assert_array_equal(all_[name], few[name])
    assert few["rank"].dtype.kind == "i"
    few["rank"][:] = 0  # the caller's own
    np.testing.assert_array_equal(model.rank, [4] * 6)


def test_diagnostics_say_what_the_fit_is_like(rng):
    train = rng.standard_normal((20, 4, 3)) * np.array([1.0, 2.0, 4.0, 8.0])[:, None]
    train[:, 1, 1] = 5
    w = frozen(rng.uniform(0.5, 2, 20))
    maps = MultiVariateGaussian(reg_covar=0).fit(train, sample_weight=w).diagnostics()
    s = [np.cov(train[:, :, p].T, aweights=w) for p in range(3)]
    assert maps["rank"].tolist() == [4, 3, 4]
    assert maps["condition"][1] == np.inf
    np.testing.assert_allclose(maps["condition"][[0, 2]], [np.linalg.cond(s[p]) for p in (0, 2)], rtol=1e-9)
    np.testing.assert_allclose(maps["effective_samples"], [w.sum() ** 2 / (w @ w)] * 3, rtol=1e-12)
    np.testing.assert_array_equal(maps["shrinkage"], 0)
    shrunk = MultiVariateGaussian(shrinkage=0.25).fit(train).diagnostics()
    np.testing.assert_array_equal(shrunk["shrinkage"], 0.25)
    np.testing.assert_allclose(shrunk["effective_samples"], 20)


@given(seeds, st.integers(2, 20), st.integers(1, 6), st.sampled_from([0.0, 5.0]), block_sizes)
def test_kurtosis_is_mardias(seed, n, c, offset, size):
    rng = np.random.default_rng(seed)
    x = frozen(rng.standard_normal((n, c, 3)) ** 3 + offset)
    with blocks_of(size):
        maps = MultiVariateGaussian().fit(x).diagnostics(x)
    for p in range(3):
        z = x[:, :, p] - x[:, :, p].mean(axis=0)
        inverse = np.linalg.pinv(z.T @ z / n, rtol=c * EPS, hermitian=True)
        r = min(c, n - 1)
        assert maps["kurtosis"][p] == pytest.approx(
            np.mean(np.einsum("ni,ij,nj->n", z, inverse, z) ** 2), 1e-7
        )
        assert maps["kurtosis_expected"][p] == pytest.approx(r * (r + 2) * (n - 1) / (n + 1), rel=1e-12)


def test_kurtosis_of_gaussian_patches_is_as_expected_and_of_others_is_not(rng):
    n, c = 60, 4
    x = rng.standard_normal((n, c, 400))
    x[:, :, 200:] *= rng.exponential(size=(n, 1, 200))
    maps = MultiVariateGaussian().fit(x).diagnostics(x)
    excess = maps["kurtosis"] - maps["kurtosis_expected"]
    sd = math.sqrt(8 * c * (c + 2) / n)
    assert abs(excess[:200].mean()) < SIGMAS * sd / math.sqrt(200)
    assert excess[200:].min() > 2 * sd


def test_kurtosis_does_not_depend_on_the_regularisation(train):
    want = MultiVariateGaussian().fit(train).diagnostics(train)["kurtosis"]
    for options in ({"reg_covar": 0}, {"shrinkage": 0.5}, {"ddof": 0}):
        got = MultiVariateGaussian(**options).fit(train).diagnostics(train)["kurtosis"]
        np.testing.assert_allclose(got, want, rtol=1e-11)


def test_diagnostics_of_parameters_do_without_moments(model, train):
    again = MultiVariateGaussian.from_parameters(*model)
    assert again.diagnostics()["condition"].shape == (6,)
    np.testing.assert_allclose(
        again.diagnostics()["condition"], model.diagnostics()["condition"].ravel(), rtol=1e-9
    )
    with pytest.raises(ValueError, match="expected its moments"):
        again.diagnostics(train)
    assert MultiVariateGaussian(3, 2).diagnostics()["condition"].tolist() == [1, 1]


def test_scores_refuse_what_distances_refuse(model, test):
    bad = test.copy()
    bad[2, 1, 1, 0] = np.nan
    for score in (model.score_samples, model.p_value, model.contributions, model.predict):
        with pytest.raises(ValueError, match=r"expected finite numbers, got NaN at index \(2, 1, 1, 0\)"):
            score(bad)
        with pytest.raises(ValueError, match="embedding: expected 4 features"):
            score(test[:, :3])
