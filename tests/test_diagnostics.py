"""Laws of `diagnostics`."""

import numpy as np
import pytest
from common import frozen

from mvgauss import MultiVariateGaussian


def test_diagnostics_are_maps_of_these_names(model):
    maps = model.diagnostics()
    assert list(maps) == ["rank", "condition", "effective_samples", "shrinkage"]
    assert {a.shape for a in maps.values()} == {(2, 3)}
    assert maps["rank"].dtype.kind == "i"
    for values in maps.values():
        values[:] = 0  # the caller's own
    np.testing.assert_array_equal(model.rank, [4] * 6)
    assert (model.diagnostics()["condition"] >= 1).all()


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


@pytest.mark.parametrize("n", [4, 40])
@pytest.mark.parametrize("options", [{}, {"shrinkage": 0.2, "reg_covar": 0}, {"reg_covar": 1e-6}], ids=str)
def test_condition_numbers_are_those_of_the_regularised_covariances(rng, n, options):
    model = MultiVariateGaussian(**options).fit(rng.standard_normal((n, 12, 3)))
    np.testing.assert_allclose(model.diagnostics()["condition"], np.linalg.cond(model.covariance), rtol=1e-8)


@pytest.mark.parametrize("ddof", [0, 0.5])
def test_a_single_sample_has_diagnostics(ddof):
    """Without a ridge nothing varies; with one every direction has its variance."""
    x = np.ones((1, 3))
    bare = MultiVariateGaussian(ddof=ddof, reg_covar=0).fit(x).diagnostics()
    assert {name: values.tolist() for name, values in bare.items()} == {
        "rank": 0, "condition": np.inf, "effective_samples": 1, "shrinkage": 0
    }  # fmt: skip
    ridge = MultiVariateGaussian(ddof=ddof).fit(x).diagnostics()
    assert (ridge["rank"], ridge["condition"]) == (3, 1)


def test_diagnostics_of_parameters_do_without_moments(model):
    again = MultiVariateGaussian.from_parameters(*model)
    assert again.diagnostics()["condition"].shape == (6,)
    np.testing.assert_allclose(
        again.diagnostics()["condition"], model.diagnostics()["condition"].ravel(), rtol=1e-9
    )
    assert MultiVariateGaussian(3, 2).diagnostics()["condition"].tolist() == [1, 1]
