"""Laws of shrinkage: scikit-learn's intensities per patch, the same from a stream as from the whole."""

import warnings
from itertools import pairwise

import numpy as np
import pytest
from common import EPS, SINGLE, assert_within, block_sizes, blocks_of, frozen, gaussians, seeds
from hypothesis import given
from hypothesis import strategies as st

import mvgauss
from mvgauss import ConstantPatchWarning, MultiVariateGaussian

ESTIMATED = ["oas", "ledoit_wolf"]

#: Of tests in which nothing may vary, or only between two samples.
may_be_constant = pytest.mark.filterwarnings("ignore::mvgauss.ConstantPatchWarning")


def theirs(x, shrinkage):
    """Return covariances (P, C, C) and intensities (P,) of scikit-learn, patch by patch."""
    covariance = pytest.importorskip("sklearn.covariance")
    function = getattr(covariance, shrinkage)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a single sample
        pairs = [function(x[:, :, p]) for p in range(x.shape[2])]
    return np.array([np.atleast_2d(s) for s, _ in pairs]), np.array([rho for _, rho in pairs])


@st.composite
def samples(draw, n=(1, 20), c=(1, 8)):
    """Draw samples (N, C, 3), some features related, of some scale and offset."""
    n, c, rng = draw(st.integers(*n)), draw(st.integers(*c)), np.random.default_rng(draw(seeds))
    x = rng.standard_normal((n, c, 3)) + 0.5 * rng.standard_normal((n, 1, 3))
    x[:, -1] *= draw(st.sampled_from([1.0, 5.0]))
    return frozen((x + draw(st.sampled_from([0.0, 10.0]))) * draw(st.sampled_from([1e-3, 1.0, 1e3])))


def entries(covariance, tolerance=1e-10):
    """Return a bound relative to the largest variance of each patch."""
    return tolerance * np.abs(covariance).max(axis=(1, 2))[:, None, None] * np.ones(covariance.shape)


# ---- equal to scikit-learn


@may_be_constant
@pytest.mark.parametrize("road", ["fit", "stream", "merge"])
@given(samples(), st.sampled_from(ESTIMATED), st.lists(st.integers(0, 100), max_size=6), block_sizes)
def test_estimated_shrinkage_is_that_of_scikit_learn_on_every_road(road, x, shrinkage, cuts, size):
    want, rho = theirs(x, shrinkage)
    options = {"shrinkage": shrinkage, "ddof": 0, "reg_covar": 0}
    model = MultiVariateGaussian(**options)
    with blocks_of(size):
        if road == "fit":
            model.fit(x)
        else:
            for a, b in pairwise(sorted({0, len(x), *(c % len(x) for c in cuts)})):
                part = MultiVariateGaussian(**options).partial_fit(x[a:b])
                model.merge(part) if road == "merge" else model.partial_fit(x[a:b])
    if len(x) > 1:  # of one sample nothing is left to shrink
        assert_within(model.diagnostics()["shrinkage"], rho, 1e-9 * np.ones(3))
    assert_within(model.covariance, want, entries(want))


@given(samples(n=(3, 20)), st.sampled_from([0.0, 0.25, 1.0, *ESTIMATED]), st.sampled_from([0, 1, 1.5]))
def test_the_intensity_is_applied_to_the_covariance_with_its_divisor_before_the_ridge(x, shrinkage, ddof):
    c, ridge = x.shape[1], 0.5 * float(x.var())
    rho = theirs(x, shrinkage)[1] if isinstance(shrinkage, str) else np.full(3, shrinkage)
    want = []
    for p in range(3):
        s = np.atleast_2d(np.cov(x[:, :, p].T, ddof=0)) * len(x) / (len(x) - ddof)
        want.append((1 - rho[p]) * s + (rho[p] * np.trace(s) / c + ridge) * np.eye(c))
    model = MultiVariateGaussian(shrinkage=shrinkage, ddof=ddof, reg_covar=ridge).fit(x)
    assert_within(model.covariance, np.array(want), entries(np.array(want)))
    assert_within(model.diagnostics()["shrinkage"], rho, 1e-9 * np.ones(3))


@pytest.mark.parametrize("zero", [0, 0.0, np.float32(0)])
def test_no_shrinkage_and_zero_shrinkage_are_the_same(rng, zero):
    x = frozen(rng.standard_normal((9, 4, 3)))
    few = 100 + rng.standard_normal((6, 2)) @ rng.standard_normal((2, 14))  # beside the noise of rounding
    none, shrunk = (MultiVariateGaussian(shrinkage=s).fit(x) for s in (None, zero))
    np.testing.assert_array_equal(shrunk.covariance, none.covariance)
    assert shrunk.p_value_law == none.p_value_law
    none, shrunk = (MultiVariateGaussian(shrinkage=s, reg_covar=0).fit(x) for s in (None, zero))
    assert shrunk.p_value_law == none.p_value_law == "hotelling"
    np.testing.assert_array_equal(shrunk.p_value(x), none.p_value(x))
    with pytest.warns(mvgauss.FewSamplesWarning):
        model = MultiVariateGaussian(shrinkage=zero, reg_covar=0).fit(few.astype(np.float32))
    assert model.rank == [2]


@may_be_constant
@pytest.mark.parametrize("shrinkage", ESTIMATED)
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_a_constant_patch_shrinks_as_in_scikit_learn_and_spoils_no_neighbour(rng, shrinkage, streamed):
    x = rng.standard_normal((8, 4, 3))
    x[:, :, 1] = 0.1
    want, rho = theirs(x, shrinkage)
    model = MultiVariateGaussian(shrinkage=shrinkage, ddof=0, reg_covar=0)
    if streamed:
        model.partial_fit(x[:3]).partial_fit(x[3:4]).partial_fit(x[4:])
    else:
        model.fit(x)
    want[1], rho[1] = 0, model.diagnostics()["shrinkage"][1]  # 0/0 there; exact zeros here
    assert rho[1] in (0, 1)
    assert_within(model.covariance, want, entries(want))
    assert (model.covariance[1] == 0).all()
    assert model.rank.tolist() == [4, 0, 4]
    assert_within(model.diagnostics()["shrinkage"], rho, 1e-9 * np.ones(3))


@pytest.mark.parametrize("shrinkage", [0.3, *ESTIMATED])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("n", [6, 60])
def test_a_constant_that_differs_by_rounding_between_batches_flags_no_good_image(rng, shrinkage, dtype, n):
    x = rng.standard_normal((n, 9, 3)).astype(dtype)
    x[:, :, 1] = dtype(0.3) * (1 + np.finfo(dtype).eps * (np.arange(n) // 3 % 3).astype(dtype))[:, None]
    with pytest.warns(ConstantPatchWarning, match=r"at 1 of 3 patches .* set reg_covar"):
        model = MultiVariateGaussian(reg_covar=0, shrinkage=shrinkage).fit(frozen(x))
    assert model.rank.tolist() == [9, 0, 9]
    new = np.full((1, 9, 3), 0.3 * (1 + 8 * np.finfo(dtype).eps), dtype)
    assert (model.mahalanobis(new)[:, 1] == 0).all()
    assert (MultiVariateGaussian(shrinkage=shrinkage).fit(x).mahalanobis(new + 1)[:, 1] > 10).all()


@pytest.mark.parametrize("n", [2, 4, 6, 40])
@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e3])
def test_ledoit_wolf_of_two_groups_of_copies_is_no_known_ridge(rng, n, unit):
    """Its intensity is exactly 0, whatever rounding makes of it; only the direction between them counts."""
    x = frozen(unit * (rng.standard_normal((2, 9, 12)) + 3)[np.arange(n) % 2])
    with pytest.warns(ConstantPatchWarning, match=r"at 12 of 12 patches .* set reg_covar"):
        model = MultiVariateGaussian(shrinkage="ledoit_wolf", reg_covar=0).fit(x)
    np.testing.assert_array_equal(model.diagnostics()["shrinkage"], 0)
    assert (model.rank == 1).all()
    np.testing.assert_allclose(model.mahalanobis(x), np.full((n, 12), np.sqrt((n - 1) / n)), rtol=1e-9)


@pytest.mark.parametrize(("shrinkage", "rho"), [("oas", 1.0), ("ledoit_wolf", 0.0)])
def test_a_covariance_that_is_the_target_already_stays(shrinkage, rho):
    x = np.concatenate([np.eye(4), -np.eye(4)])[:, :, None]
    model = MultiVariateGaussian(shrinkage=shrinkage, ddof=0, reg_covar=0).fit(x)
    # a root of the scatter is kept, whose square is rounded once
    np.testing.assert_allclose(model.covariance, [0.25 * np.eye(4)], rtol=4 * EPS, atol=0)
    assert model.diagnostics()["shrinkage"] == rho


@pytest.mark.parametrize("shrinkage", ESTIMATED)
def test_shrinkage_kept_in_single_precision_is_computed_in_double(rng, shrinkage):
    x = frozen(rng.standard_normal((30, 6, 4)) + 2, np.float32)
    model = MultiVariateGaussian(shrinkage=shrinkage, ddof=0, reg_covar=0, dtype=np.float32)
    model.partial_fit(x[:11]).partial_fit(x[11:])
    want, rho = theirs(x.astype(float), shrinkage)
    assert_within(model.diagnostics()["shrinkage"], rho, 1e-9 * rho)
    assert_within(model.covariance, want, entries(want, SINGLE))


# ---- the fourth moments


def test_fourth_moments_of_parts_far_apart_keep_their_digits(rng):
    x = frozen(np.concatenate([rng.standard_normal((6, 3)) + a for a in (0, 1e3, -1e5, 1e5)]))
    want, rho = theirs(x[:, :, None], "ledoit_wolf")
    model = MultiVariateGaussian(shrinkage="ledoit_wolf", ddof=0, reg_covar=0)
    for i in range(0, 24, 6):
        model.partial_fit(x[i : i + 6])
    assert_within(model.diagnostics()["shrinkage"], rho[0], 1e-9)
    assert_within(model.covariance, want, entries(want))


@pytest.mark.parametrize("way", ["partial_fit", "merge"])
def test_fourth_moments_cannot_be_asked_for_in_mid_stream(rng, way):
    x = frozen(rng.standard_normal((9, 3, 2)))
    model = MultiVariateGaussian().partial_fit(x).set_params(shrinkage="ledoit_wolf")
    other = MultiVariateGaussian(shrinkage="ledoit_wolf").fit(x)
    before = model.covariance
    with pytest.raises(ValueError, match=r"shrinkage: expected .*'ledoit_wolf', .*before the first fit"):
        model.partial_fit(x) if way == "partial_fit" else model.merge(other)
    with pytest.raises(ValueError, match=r"shrinkage: expected .*'ledoit_wolf', .*before the first fit"):
        other.merge(MultiVariateGaussian().fit(x))
    np.testing.assert_array_equal(model.covariance, before)
    model.set_params(shrinkage="oas", ddof=0, reg_covar=0).partial_fit(x[:4])
    want, _ = theirs(np.concatenate([x, x[:4]]), "oas")
    assert_within(model.covariance, want, entries(want))


# ---- weights


@given(
    samples(n=(2, 12)), seeds, st.sampled_from([0.3, *ESTIMATED]), st.sampled_from([0, 1, 0.5]), st.booleans()
)
def test_weighted_samples_shrink_as_those_that_are_there_as_often(x, seed, shrinkage, ddof, streamed):
    w = np.random.default_rng(seed).integers(0, 4, len(x), np.intp)
    w[:2] += 1
    options = {"shrinkage": shrinkage, "ddof": ddof, "reg_covar": 0.1 * float(x.var())}
    want = MultiVariateGaussian(**options).fit(np.repeat(x, w, axis=0))
    got = MultiVariateGaussian(**options)
    if streamed:
        got.partial_fit(x[:1], sample_weight=w[:1]).partial_fit(x[1:], sample_weight=w[1:])
    else:
        got.fit(x, sample_weight=w)
    rho = want.diagnostics()["shrinkage"]
    assert_within(got.diagnostics()["shrinkage"], rho, 1e-9 * np.ones(3))
    np.testing.assert_allclose(got.mean, want.mean, rtol=1e-12, atol=1e-12 * np.abs(x).max())
    assert_within(got.covariance, want.covariance, entries(want.covariance))


@pytest.mark.parametrize("shrinkage", [0.3, *ESTIMATED])
@pytest.mark.parametrize("c", [3, 20], ids=["a square", "rows"])
def test_weights_need_not_be_whole(rng, shrinkage, c):
    x, w = frozen(rng.standard_normal((9, c, 2)) + 3), frozen(rng.uniform(0.2, 3, 9))
    model = MultiVariateGaussian(shrinkage=shrinkage).fit(x, sample_weight=w)
    want = gaussians(x, w, shrinkage=shrinkage)
    covariance = np.array([g.covariance for g in want])
    assert_within(model.diagnostics()["shrinkage"], [g.intensity for g in want], 1e-9 * np.ones(2))
    assert_within(model.covariance, covariance, entries(covariance, 1e-12))


# ---- refused


@pytest.mark.parametrize(
    ("shrinkage", "got"),
    [(-0.1, "-0.1"), (1.1, "1.1"), ("lw", "'lw'"), (np.nan, "nan"), ([0.1], r"\[0.1\]"), (True, "True")],
)
def test_another_shrinkage_is_refused_by_name(rng, shrinkage, got):
    with pytest.raises((ValueError, TypeError), match=f"shrinkage: expected .*, got {got}"):
        MultiVariateGaussian(shrinkage=shrinkage).fit(rng.standard_normal((9, 3, 2)))
