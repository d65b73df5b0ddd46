"""Laws of densities and contributions."""

import math

import numpy as np
import pytest
import scipy.stats
from common import assert_within, block_sizes, blocks_of, frozen, seeds
from hypothesis import given
from hypothesis import strategies as st

from mvgauss import MultiVariateGaussian

# ---- densities


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


# ---- contributions


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


# ---- refusals


def test_scores_refuse_what_distances_refuse(model, test):
    bad = test.copy()
    bad[2, 1, 1, 0] = np.nan
    for score in (model.score_samples, model.p_value, model.contributions, model.predict):
        with pytest.raises(ValueError, match=r"expected finite numbers, got NaN at index \(2, 1, 1, 0\)"):
            score(bad)
        with pytest.raises(ValueError, match="embedding: expected 4 features"):
            score(test[:, :3])
