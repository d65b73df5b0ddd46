"""Laws of the one decision about what counts as zero, in `pinv` and in the model."""

import numpy as np
import pytest
from common import EPS, SINGLE, assert_within, covariances, frozen, seeds
from hypothesis import given
from hypothesis import strategies as st

from mvgauss import ConstantPatchWarning, MultiVariateGaussian, cov, mahalanobis, pinv


def fitted(x, **options):
    return MultiVariateGaussian(**options).fit(frozen(x))


def of_variances(rng, n, sd):
    """Return n samples whose covariance of divisor n - 1 has exactly these standard deviations along axes."""
    z = rng.standard_normal((n, len(sd)))
    q = np.linalg.qr(z - z.mean(axis=0))[0]
    return frozen(q * np.sqrt(n - 1) * sd)


@pytest.mark.parametrize("n", [4, 12, 60])
@pytest.mark.parametrize("units", [[1e5, 1e-4], [1e-90, 1e90], [1e30, 1, 1e-30, 1e-3]], ids=str)
def test_the_units_of_features_change_no_rank_and_no_distance(rng, n, units):
    """Only where features do not depend on each other: a third of them does not, in the last two tests."""
    c = len(units)
    x = rng.standard_normal((max(n, c + 2), c))
    plain, scaled = fitted(x, reg_covar=0), fitted(x * units, reg_covar=0)
    assert plain.rank == scaled.rank == [c]
    y = rng.standard_normal((5, c)) + 3
    np.testing.assert_allclose(scaled.mahalanobis(y * units), plain.mahalanobis(y), rtol=1e-11)
    np.testing.assert_allclose(
        scaled.score_samples(y * units) + np.log(units).sum(), plain.score_samples(y), rtol=1e-11
    )


@given(seeds, st.lists(st.integers(-60, 60), min_size=9, max_size=9))
def test_the_units_of_few_samples_change_no_rank(seed, exponents):
    """Where directions are missing, it depends on the units which these are."""
    x = np.random.default_rng(seed).standard_normal((4, 9))
    assert fitted(x * 10.0 ** np.array(exponents), reg_covar=0).rank == [3]


@pytest.mark.parametrize("few", [False, True], ids=["squares", "rows"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_what_rounding_to_the_dtype_may_have_made_counts_as_zero_feature_by_feature(rng, few, dtype):
    """A feature far from zero that varies by an ulp is rounding; one near zero that varies as little, not."""
    eps, (n, c) = float(np.finfo(dtype).eps), (6, 40) if few else (200, 3)
    x = rng.standard_normal((n, c))
    x[:, 0] = 1 + eps / 2 * (np.arange(n) % 2)
    x[:, 1] = eps / 2 * rng.standard_normal(n)
    model = fitted(x.astype(dtype), reg_covar=0, dtype="float64")
    assert model.rank == [min(n, c) - 1]
    x[:, 0] = 1 + 64 * eps * (np.arange(n) % 2)
    assert fitted(x.astype(dtype), reg_covar=0, dtype="float64").rank == [min(n - 1, c)]


def test_constants_of_single_precision_beside_a_feature_of_one_ulp_leave_densities_finite(rng):
    """The fitted samples are on the support, judged with the resolution that decided the rank."""
    x = rng.standard_normal((40, 3)).astype(np.float32)
    x[:, 1] = np.float32(1000) + np.spacing(np.float32(1000)) * (np.arange(40) % 2)
    model = fitted(x, reg_covar=0, dtype="float64")
    assert model.rank == [2]
    assert np.isfinite(model.score_samples(x)).all()


@pytest.mark.parametrize("first", [0, 1])
def test_a_merged_model_is_judged_by_the_coarser_precision_of_its_parts(rng, first):
    double, single = rng.standard_normal((2, 40, 3))
    double[:, 1] = 1000
    single[:, 1] = 1000 + np.spacing(np.float32(1000)) * (np.arange(40) % 2)
    parts = [fitted(x, reg_covar=0, dtype="float64") for x in (double, single.astype(np.float32))]
    assert parts[first].merge(parts[1 - first]).rank == [2]


@pytest.mark.parametrize("scale", [1e-100, 1.0, 1e100])
@pytest.mark.parametrize("n", [5, 60])
def test_a_known_ridge_drops_nothing(rng, n, scale):
    x = rng.standard_normal((n, 12))
    x[:, 3] = x[:, 2]
    model = fitted(x * scale, reg_covar=1e-6 * scale**2)
    assert model.rank == [12]
    along = np.zeros((1, 12))
    along[0, 2:4] = scale, -scale  # in which nothing varies but the ridge
    d2 = model.mahalanobis(model.mean.T + along, squared=True)
    np.testing.assert_allclose(d2, 2 / 1e-6, rtol=1e-6)


def test_a_constant_that_differs_by_rounding_between_batches_is_a_constant(rng):
    values = np.repeat(0.3 * (1 + EPS * np.arange(3)), 5)
    x = np.concatenate([np.full((15, 1), 1.0) * values[:, None], rng.standard_normal((15, 1))], axis=1)
    model = MultiVariateGaussian(reg_covar=0)
    for part in np.split(x, 3):
        model.partial_fit(part)
    assert model.rank == [1]
    assert model.mahalanobis([[0.3, x[:, 1].mean()]]) < 1e-6


@pytest.mark.parametrize("n", [4, 40])
def test_patches_with_and_without_a_floor_are_told_apart(rng, n):
    """Ledoit-Wolf adds nothing where all variance is between two groups of copies."""
    x = rng.standard_normal((n, 12, 2))
    x[:, :, 0] = rng.standard_normal((2, 12))[np.arange(n) % 2]
    with pytest.warns(ConstantPatchWarning, match="at 1 of 2 patches"):
        model = fitted(x, reg_covar=0, shrinkage="ledoit_wolf")
    assert model.rank.tolist() == [1, 12]
    assert (model.mahalanobis(x)[:, 0] < 2).all()
    p, rank = pinv(cov(x[:, :, 0]), return_rank=True)
    assert rank == 1
    np.testing.assert_allclose(
        model.mahalanobis(x)[:, 0], mahalanobis(x[:, :, 0], model.mean[:, 0], p), rtol=1e-6
    )


@pytest.mark.parametrize("low", [1e-12, 1e-5])
@pytest.mark.parametrize("n", [20, 6])
def test_rank_density_and_inverse_agree(rng, n, low):
    """One decision: of six directions, of standard deviations from 1 down."""
    sd = np.geomspace(1, low, 5)
    x = np.zeros((n, 6))
    x[:, :5] = of_variances(rng, n, sd)
    q = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    model = fitted(x @ q, reg_covar=0)
    rank = int((sd**2 > 6 * EPS).sum())
    inverse = q[:rank].T / sd[:rank] ** 2 @ q[:rank]
    assert model.rank == [rank]
    assert_within(model.inv_covariance[0], inverse, 1e-3 * np.abs(inverse).max())
    want = -0.5 * (rank * np.log(2 * np.pi) + 2 * np.log(sd[:rank]).sum())
    np.testing.assert_allclose(model.score_samples(model.mean.T), want, rtol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rank", [0, 1, 3, 7])
def test_a_given_pseudo_inverse_has_the_rank_that_it_is_said_to_have(rng, dtype, rank):
    s = covariances(rng, (4,), 8, rank, 30.0)
    p = pinv(s, 1e-9).astype(dtype)
    model = MultiVariateGaussian.from_parameters(np.zeros((8, 4)), p, rank=rank, dtype="float64")
    error = 8 * float(np.finfo(dtype).eps)
    assert model.rank.tolist() == [rank] * 4
    assert_within(model.inv_covariance, p.astype(float), 16 * error * np.abs(p).max())
    assert_within(model.covariance, s, 1e3 * error)
    z = rng.standard_normal((5, 8, 4))
    without = MultiVariateGaussian.from_parameters(np.zeros((8, 4)), p, dtype="float64")
    np.testing.assert_allclose(model.mahalanobis(z), without.mahalanobis(z), rtol=1e-13)


@pytest.mark.parametrize("eps", [EPS, SINGLE])
@pytest.mark.parametrize("c", [2, 13, 40])
def test_a_given_inverse_is_taken_at_its_word(rng, eps, c):
    """Down to its rounding an eigenvalue is what it is: a direction of large variance."""
    values = np.geomspace(1, 1e3 * c * eps, c)
    q = np.linalg.qr(rng.standard_normal((c, c)))[0]
    p = (q * values) @ q.T
    model = MultiVariateGaussian.from_parameters(np.zeros((c, 1)), frozen((p + p.T)[None] / 2))
    assert model.rank == [c]
    assert_within(model.inv_covariance[0], (p + p.T) / 2, 64 * c * EPS)
    want = 0.5 * (np.log(values).sum() - c * np.log(2 * np.pi))
    np.testing.assert_allclose(model.score_samples(np.zeros((1, c))), want, rtol=1e-6)


@pytest.mark.parametrize("rank", [-1, 4, 1.5, [1, 2]])
def test_ranks_that_cannot_be_are_refused(rank):
    with pytest.raises(ValueError, match="rank: expected"):
        MultiVariateGaussian.from_parameters(np.zeros((3, 1)), np.eye(3)[None], rank=rank)
