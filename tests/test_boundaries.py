"""No silently wrong number: in any precision, near every boundary, on every road to a model."""

import itertools

import numpy as np
import pytest
from common import frozen

from mvgauss import MultiVariateGaussian
from mvgauss.testing import svd_gaussian

EPS = {"float32": float(np.finfo(np.float32).eps), "float64": float(np.finfo(np.float64).eps)}


def draws(*shape):
    return np.random.default_rng(0).normal(size=shape)


# ---- a known ridge is a floor


@pytest.mark.parametrize("kept", ["float32", "float64"])
@pytest.mark.parametrize(("c", "least"), [(96, 20), pytest.param(384, 30, marks=pytest.mark.slow)])
def test_a_ridge_is_kept_beside_a_loud_feature(c, least, kept):
    sd = np.full(c, 0.5)
    sd[7] = 38400 / c  # C eps of its variance, in single precision, is more than the others have
    x = frozen((draws(1000, c) * sd).astype(np.float32))
    y = x[:3].copy()
    y[:, 3] += 10
    model = MultiVariateGaussian(dtype=kept).fit(x)
    assert (model.rank == c).all()
    want = svd_gaussian(x).mahalanobis(y)
    np.testing.assert_allclose(model.mahalanobis(y), want, rtol=64 * 2000 * EPS[kept])
    assert want.min() > least


@pytest.mark.parametrize("n", [6, 60])
@pytest.mark.parametrize("ridge", [0.01, 1e-6])
def test_a_ridge_far_below_the_rounding_of_the_variances_is_a_floor(n, ridge):
    x = draws(n, 20)
    x[1::2] = x[::2]  # directions without any variance, in which only rounding is left of it
    x += 1e9 * draws(n, 1)[::-1]
    model = MultiVariateGaussian(reg_covar=ridge).fit(frozen(x))
    y = x.mean(axis=0) + draws(4, 20)
    z = y - model.mean[:, 0]
    assert model.rank == [20]
    assert (model.mahalanobis(y, squared=True) <= (z * z).sum(axis=1) / ridge * (1 + 1e-12)).all()
    assert np.isfinite(model.score_samples(y)).all()


# ---- a given inverse is taken at its word


@pytest.mark.parametrize("kept", [np.float64, np.float32])
@pytest.mark.parametrize(("n", "c"), [(24, 60), (80, 60), (60, 150)])
@pytest.mark.parametrize("ridge", [0.01, 1e-3])
def test_the_two_arrays_of_a_model_give_the_model_back(kept, n, c, ridge):
    r = np.random.default_rng(1)
    x = frozen(r.normal(size=(n, c, 2)) + 2 * r.normal(size=(n, 1, 1)))
    y = frozen(r.normal(size=(5, c, 2)) + 2 * r.normal(size=(5, 1, 1)))
    model = MultiVariateGaussian(reg_covar=ridge).fit(x)
    again = MultiVariateGaussian.from_parameters(*(a.astype(kept) for a in model), dtype="float64")
    condition = model.diagnostics()["condition"].max()
    assert condition < 1e6
    assert (again.rank == c).all()
    bound = 64 * np.sqrt(condition) * np.finfo(kept).eps
    np.testing.assert_allclose(again.mahalanobis(y), model.mahalanobis(y), rtol=min(bound, 0.02))
    np.testing.assert_allclose(again.score_samples(y), model.score_samples(y), rtol=min(bound, 0.1))
    # rounded by eps / 2 of each entry, the inverse P moves by at most sqrt(C) eps / 2 of its norm, the
    # covariance by the condition times that
    error = np.abs(again.covariance - model.covariance).max() / np.abs(model.covariance).max()
    assert error <= condition * np.sqrt(c) * np.finfo(kept).eps / 2


@pytest.mark.parametrize("kept", [np.float64, np.float32, np.float16])
def test_the_pseudo_inverses_of_a_model_give_it_back_with_their_rank(kept):
    x = frozen(draws(20, 30, 3))
    model = MultiVariateGaussian(reg_covar=0).fit(x)
    again = MultiVariateGaussian.from_parameters(*(a.astype(kept) for a in model), rank=model.rank)
    assert (again.rank == 19).all()
    bound = 64 * np.sqrt(100) * max(np.finfo(kept).eps, np.finfo(np.float64).eps)
    np.testing.assert_allclose(again.mahalanobis(x), model.mahalanobis(x), rtol=bound)


# ---- rank, in whatever dtype the data were stored


@pytest.mark.parametrize(
    ("dtype", "offset"), [("f8", 0), ("f8", 1e5), ("f4", 0), ("f4", 100), ("f2", 0), ("f2", 10)]
)
@pytest.mark.parametrize("n", [5, 8, 16, 17, 40])
def test_a_copy_of_deficient_data_has_the_rank_of_the_data(dtype, offset, n):
    r = np.random.default_rng(3)
    x = (r.normal(size=(40, 3)) @ r.normal(size=(3, 30)))[:n, :, None].repeat(4, axis=2) * [1, 2, 0.5, 3]
    assert (MultiVariateGaussian(reg_covar=0).fit((x + offset).astype(dtype)).rank == 3).all()


@pytest.mark.parametrize("dtypes", list(itertools.permutations(["f8", "f4", "f2"])))
@pytest.mark.parametrize("n", [9, 60])
def test_parts_of_deficient_data_in_several_dtypes_have_the_rank_of_the_data(dtypes, n):
    r = np.random.default_rng(3)
    x = (r.normal(size=(n, 3)) @ r.normal(size=(3, 30)) + 3)[:, :, None]
    parts = [part.astype(dtype) for part, dtype in zip(np.split(x, 3), dtypes, strict=True)]
    streamed, merged = MultiVariateGaussian(reg_covar=0), MultiVariateGaussian(reg_covar=0)
    for part in parts:
        streamed.partial_fit(part)
        merged.merge(MultiVariateGaussian(reg_covar=0).partial_fit(part))
    assert streamed.rank == merged.rank == [3]


# ---- out of range


@pytest.mark.parametrize("shrinkage", ["oas", "ledoit_wolf", 0.4, None])
@pytest.mark.parametrize("scale", [1e8, 1e-13, 1e70, 1e-70])
@pytest.mark.parametrize("n", [6, 40])
def test_a_common_factor_of_the_data_changes_no_intensity_and_no_distance(shrinkage, scale, n):
    x = draws(n, 10)
    plain, scaled = (MultiVariateGaussian(shrinkage=shrinkage, reg_covar=0).fit(f * x) for f in (1, scale))
    np.testing.assert_allclose(scaled.diagnostics()["shrinkage"], plain.diagnostics()["shrinkage"], rtol=1e-9)
    np.testing.assert_allclose(scaled.mahalanobis(scale * x), plain.mahalanobis(x), rtol=1e-9)
    np.testing.assert_allclose(scaled.leave_one_out(scale * x), plain.leave_one_out(x), rtol=1e-7)


@pytest.mark.parametrize(("scale", "word"), [(1e-170, "smaller"), (1e160, "larger")])
@pytest.mark.parametrize("weights", [None, np.arange(30) % 2])
def test_data_whose_squares_leave_the_range_are_refused_for_what_they_are(scale, word, weights):
    with pytest.raises(ValueError, match=f"whose squares float64 can hold, got {word} ones"):
        MultiVariateGaussian().fit(scale * draws(30, 4), sample_weight=weights)


@pytest.mark.parametrize(("scale", "ridge"), [(1e60, 0), (1e40, 0), (1e-50, 0), (1e40, 0.01)])
@pytest.mark.parametrize(("n", "c"), [(30, 4), (4, 30)])
def test_a_dtype_whose_range_is_too_short_is_refused(scale, ridge, n, c):
    x = scale * draws(n, c)
    model = MultiVariateGaussian(dtype="float32", reg_covar=ridge)
    with pytest.raises(ValueError, match=r"dtype: expected float64 .* got float32 for"):
        model.fit(x)
    with pytest.raises(ValueError, match=r"dtype: expected float64 .* got float32 for"):
        model.partial_fit(x).mahalanobis(x)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_sample_alone_has_to_be_finite(bad):
    """It has a mean, and no row."""
    model = MultiVariateGaussian()
    with pytest.raises(ValueError, match=r"^embedding: expected finite numbers, got (NaN|inf) at index"):
        model.partial_fit(np.full((1, 9), bad))
    assert not model.__sklearn_is_fitted__()


def test_fourth_powers_that_leave_the_range_are_refused_where_they_are_needed():
    x = 1e100 * draws(30, 4)
    MultiVariateGaussian().partial_fit(x)
    for first in (x[:1], x / 1e30):
        model = MultiVariateGaussian(shrinkage="ledoit_wolf").partial_fit(first)
        with pytest.raises(ValueError, match="embedding: expected numbers whose squares float64 can hold"):
            model.partial_fit(x)


@pytest.mark.parametrize("scale", [1e25, 1e-25])
def test_matrices_that_leave_the_range_of_the_dtype_are_refused_and_distances_are_not(scale):
    x = frozen((scale * draws(30, 4)).astype(np.float32))
    model, double = (MultiVariateGaussian(reg_covar=0, dtype=dtype).fit(x) for dtype in (None, "float64"))
    np.testing.assert_allclose(model.mahalanobis(x), double.mahalanobis(x), rtol=1e-6)
    for name in ("covariance", "inv_covariance"):
        with pytest.raises(ValueError, match=r"dtype: expected float64 .* got float32 for"):
            getattr(model, name)


@pytest.mark.parametrize("scale", [[[1e30, 1.0], [1.0, 1.0]], [[1.0, 1e-25], [1.0, 1e-25]]], ids=str)
def test_matrices_are_refused_by_their_largest_variance_patch_by_patch(rng, scale):
    """A large one beside small ones, or patches of which each is too small and another is not."""
    x = rng.standard_normal((20, 2, 2))
    x *= scale
    model = MultiVariateGaussian(reg_covar=0, dtype="float32").fit(x)
    assert np.isfinite(model.mahalanobis(x)).all()
    with pytest.raises(ValueError, match="dtype: expected float64 for numbers of such a size"):
        model.covariance  # noqa: B018
