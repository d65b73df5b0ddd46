"""Laws of `diagnostics`."""

import math

import numpy as np
import pytest
from common import EPS, SIGMAS, block_sizes, blocks_of, frozen, seeds
from hypothesis import given
from hypothesis import strategies as st

from mvgauss import MultiVariateGaussian


@pytest.fixture
def train(rng):
    return frozen(rng.standard_normal((30, 4, 2, 3)) + 2)


@pytest.fixture
def model(train):
    return MultiVariateGaussian().fit(train)


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
