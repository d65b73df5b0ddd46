"""The oracle by singular values agrees with exact arithmetic, and decides about zero as it says."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvgauss.testing import exact_cov, exact_mahalanobis, exact_mean, exact_pinv, strategies, svd_gaussian

RIDGES = st.sampled_from([0.01, 1.0, 0.0])


def off(got, want):
    """Return the largest difference, relative to the largest number."""
    return np.max(np.abs(got - want), initial=0) / max(np.max(np.abs(want), initial=0), 1e-300)


@strategies.steady
@given(st.data(), strategies.observations((2, 7), (1, 4), scales=(1.0, 1e3), offsets=(0.0, 1e6)), RIDGES)
def test_it_is_the_exact_gaussian(data, x, ridge):
    w = data.draw(strategies.weights(len(x), "f", zeros=False))["fweights"]
    s = np.atleast_2d(exact_cov(x, fweights=w, ddof=0.5)) + ridge * np.eye(x.shape[1])
    g = svd_gaussian(x, w, 0.5, ridge)
    # a mean may cancel, so that its error is relative to the samples
    assert np.abs(g.mean - exact_mean(x, fweights=w)).max() < 1e-15 * np.abs(x).max(initial=1e-300)
    assert off(g.covariance, s) < 1e-9
    assert g.rank == (x.shape[1] if ridge else min(len(x) - 1, x.shape[1]))
    if g.rank == x.shape[1]:
        p, y = exact_pinv(s), x + np.arange(x.shape[1]) % 2
        assert off(g.inv_covariance, p) < 1e-7
        assert off(g.mahalanobis(y), exact_mahalanobis(y, exact_mean(x, fweights=w), p)) < 1e-7
        log_density = -0.5 * np.log(np.linalg.det(2 * math.pi * s)) - g.mahalanobis(y, squared=True) / 2
        assert off(g.score_samples(y), log_density) < 1e-9


@pytest.mark.parametrize("name", ["oas", "ledoit_wolf"])
@pytest.mark.parametrize("shape", [(30, 4), (5, 12)])
def test_intensities_are_those_of_scikit_learn(rng, shape, name):
    covariance = pytest.importorskip("sklearn.covariance")
    x = rng.normal(size=shape) * np.linspace(0.2, 2, shape[1])
    g = svd_gaussian(x, ddof=0, reg_covar=0, shrinkage=name)
    want = getattr(covariance, {"oas": "OAS", "ledoit_wolf": "LedoitWolf"}[name])().fit(x)
    assert 0.05 < g.intensity < 1
    assert g.intensity == pytest.approx(want.shrinkage_, rel=1e-10)
    assert off(g.covariance, want.covariance_) < 1e-12
    assert off(g.mahalanobis(x, squared=True), want.mahalanobis(x)) < 1e-10


@pytest.mark.parametrize("options", [{}, {"reg_covar": 0}, {"shrinkage": "oas", "ddof": 0}])
def test_leaving_one_out_is_fitting_without_it(rng, options):
    x, w = rng.normal(size=(6, 3)), np.array([1.0, 2, 1, 3, 1, 1.5])
    got = svd_gaussian(x, w, **options).leave_one_out()
    for i in range(6):
        kept = np.arange(6) != i
        assert got[i] == svd_gaussian(x[kept], w[kept], **options).mahalanobis(x[i : i + 1])


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_what_storage_rounded_is_no_direction(rng, dtype):
    odds = np.exp(rng.normal(size=(60, 10)))
    x = (1 + odds / odds.sum(axis=1, keepdims=True)).astype(dtype)
    assert svd_gaussian(x, reg_covar=0).rank == 9
    assert svd_gaussian(x, reg_covar=0, resolution=0).rank == 10
    assert svd_gaussian(x.astype(float), reg_covar=0, resolution=np.finfo(dtype).eps).rank == 9
    assert svd_gaussian(x).rank == 10


def test_a_small_feature_at_zero_is_a_direction(rng):
    x = rng.normal(size=(50, 3)) * [1, 1e-6, 1e-9]
    assert svd_gaussian(x.astype(np.float32), reg_covar=0).rank == 2  # 1e-18 is below C eps
    assert svd_gaussian((x + np.array([0, 100, 0])).astype(np.float32), reg_covar=0).rank == 1


def test_a_ridge_is_never_dropped(rng):
    x = rng.normal(size=(20, 30)) + 1e6 * rng.normal(size=(20, 1))
    g = svd_gaussian(x, reg_covar=1e-6)
    z = np.linalg.svd(x - x.mean(axis=0))[2][-1:]  # a direction in which nothing varies
    assert g.rank == 30
    assert g.mahalanobis(g.mean + z) == pytest.approx(1e3, rel=1e-3)
