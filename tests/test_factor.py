"""Both forms of a factor are held to the same laws against dense matrices."""

import numpy as np
import pytest
from common import frozen

from mvgauss import MultiVariateGaussian
from mvgauss._factor import Root
from mvgauss._sample import Sample, shift_of
from mvgauss._scatter import Rows, Scatter, in_rows
from mvgauss._thin import Thin

P, C = 3, 12


def block(n, deficient=False):
    r = np.random.default_rng(n)
    x = r.normal(size=(P, n, C)) * np.linspace(0.5, 2, C)
    if deficient:
        x[:, :, 5] = x[:, :, 1] + x[:, :, 2]
        x[:, :, 7] = 0
    return Sample.of(frozen(x), None, fourth=False)


def of_samples(x):
    """Return the scatters that keep samples in single precision."""
    kept = Scatter.empty(*x.shape, single=True)
    kept.array[...] = x
    kept.shift[...] = shift_of(x[:, 0], x.mean(axis=1, dtype=float), 1 / np.sqrt(x.shape[1]))
    return kept


def factor(sample, scale, ridge):
    ones = np.ones(P)
    return sample.scatter.factor(scale * ones, ridge * ones, 0 * ones, None, ridge > 0)


def check_factor(factor, sigma, precision=1e-13):
    """Hold a block of factors to the covariances that it stands for."""
    p, c = sigma.shape[:2]
    values, vectors = np.linalg.eigh(sigma)
    keep = values > 1e-10 * values[:, -1:]
    rank = keep.sum(axis=1)
    condition = values[:, -1] / np.where(keep, values, np.inf).min(axis=1)
    rtol = precision * condition.max() + 1e-13
    inverse = (vectors * np.where(keep, 1 / np.where(keep, values, 1), 0)[:, None]) @ vectors.swapaxes(1, 2)
    assert (factor.rank == rank).all()
    log_pdet = np.log(np.where(keep, values, 1)).sum(axis=1)
    np.testing.assert_allclose(factor.log_pdet, log_pdet, atol=c * rtol)
    z = frozen(np.random.default_rng(0).normal(size=(p, 5, c)))
    want = np.einsum("pmi,pij,pmj->pm", z, inverse, z)
    np.testing.assert_allclose(factor.squared_norms(z), want, rtol=rtol, atol=rtol * want.max())
    size = np.abs(inverse).max()
    np.testing.assert_allclose(factor.solve(z), z @ inverse, atol=10 * rtol * size)
    np.testing.assert_allclose(factor.inverse(), inverse, atol=rtol * size)
    assert (factor.inverse() == factor.inverse().swapaxes(1, 2)).all()
    np.testing.assert_allclose(factor.covariance(), sigma, atol=rtol * np.abs(sigma).max())
    assert (factor.covariance() == factor.covariance().swapaxes(1, 2)).all()
    full = rank == c
    np.testing.assert_allclose(factor.condition()[full], condition[full], rtol=10 * rtol)
    assert np.isinf(factor.condition()[~full]).all()
    inside = np.einsum("pij,pmj->pmi", sigma, z)
    assert not factor.off_support(inside).any()
    assert (factor.off_support(z) == ~full[:, None]).all()
    least = np.sqrt(c * np.finfo(float).eps * values[:, -1])  # of what is no rounding of large deviations
    aside = np.stack([vectors[:, :, 0] * (share * least)[:, None] for share in (0.5, 2)], axis=1)
    assert (factor.off_support(aside) == (~full[:, None] & [False, True])).all()
    part = factor[slice(1, 2)]
    assert (part.squared_norms(z[1:2]) == factor.squared_norms(z)[1:2]).all()
    again = type(factor)(**{name: np.zeros_like(a) for name, a in factor.arrays().items()})
    for name in {"rows", "shift"} & set(factor.arrays()):
        getattr(again, name)[...] = getattr(factor, name)
    again[slice(0, 2)], again[slice(2, 3)] = factor[slice(0, 2)], factor[slice(2, 3)]
    assert (again.squared_norms(z) == factor.squared_norms(z)).all()


@pytest.mark.parametrize("deficient", [False, True])
@pytest.mark.parametrize("ridge", [0.0, 1e-4, 0.01, 10.0])
@pytest.mark.parametrize("n", [2, 3, 5, 7, 8, 12, 13, 14, 40])
def test_a_factor_is_that_of_the_dense_covariance(n, ridge, deficient):
    sample = block(n, deficient)
    scale = 1 / (n - 1)
    sigma = sample.scatter.square() * scale + ridge * np.eye(C)
    made = factor(sample, scale, ridge)
    assert isinstance(made, Thin if ridge and in_rows(n, C) else Root)
    check_factor(made, sigma)


@pytest.mark.parametrize("offset", [0, 3, 1000])
@pytest.mark.parametrize("ridge", [0.01, 10.0])
@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_a_factor_of_samples_subtracts_their_mean(n, ridge, offset):
    x = (np.random.default_rng(n).normal(size=(P, n, C)) * np.linspace(0.5, 2, C) + offset).astype(np.float32)
    kept, scale = of_samples(x), 1 / n
    z = x - x.mean(axis=1, dtype=float)[:, None]
    sigma = scale * z.swapaxes(1, 2) @ z + ridge * np.eye(C)
    made = kept.empty_factor(True, np.dtype(float))
    for b in (slice(0, 1), slice(1, P)):
        made[b] = kept[b].factor(*np.broadcast_to([[scale], [ridge], [0]], (3, len(x[b]))), None, True)
    assert made.dtype == float
    assert made.n_rows == 2 * (n - 1)
    check_factor(made, sigma)
    np.testing.assert_array_equal(made.centred, kept[slice(None)].array)


@pytest.mark.parametrize("ridge", [0.01, 1e-4])
@pytest.mark.parametrize("n", [2, 4, 7])
def test_both_forms_give_the_same_answers_where_both_are_possible(n, ridge):
    sample, scale, ones = block(n), 1 / (n - 1), np.ones(P)
    thin = factor(sample, scale, ridge)
    square = Rows.triangular(sample.scatter.array).factor(scale * ones, ridge * ones, 0 * ones, None, True)
    assert isinstance(thin, Thin)
    assert isinstance(square, Root)
    z = frozen(np.random.default_rng(1).normal(size=(P, 4, C)))
    bound = 64 * np.sqrt(thin.condition().max()) * np.finfo(float).eps
    np.testing.assert_allclose(thin.squared_norms(z), square.squared_norms(z), rtol=bound)
    np.testing.assert_allclose(thin.log_pdet, square.log_pdet, rtol=bound)
    np.testing.assert_allclose(thin.condition(), square.condition(), rtol=bound)


@pytest.mark.parametrize("n", [1, 2, 7, 13, 40])
@pytest.mark.parametrize("scale", [0.0, 1e-300, 1e-100, 1e100])
def test_a_factor_is_right_at_any_scale(n, scale):
    """A scale of 0 is a shrinkage of 1: a multiple of the identity."""
    sample = block(n)
    if scale in (1e-300, 0.0):
        made = factor(sample, scale, 2.0)
        check_factor(made, np.broadcast_to(2 * np.eye(C), (P, C, C)) + 0.0)
        return
    one, other = factor(sample, 0.5, 0.25), factor(sample, 0.5 * scale, 0.25 * scale)
    z = np.random.default_rng(1).normal(size=(P, 4, C))
    np.testing.assert_allclose(other.squared_norms(z) * scale, one.squared_norms(z), rtol=1e-10)
    np.testing.assert_allclose(other.log_pdet, one.log_pdet + C * np.log(scale), rtol=1e-12)


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("twins", [False, True])
@pytest.mark.parametrize("n", [3, 7])
def test_patches_without_a_ridge_beside_others_are_pseudo_inverted(n, twins, single):
    """An estimated shrinkage may be 0 at one patch and not at another."""
    x = np.random.default_rng(n).normal(size=(P, n, C)).astype(np.float32)
    x[:, 1] = x[:, 0] if twins else x[:, 1]
    sample, ridge = Sample.of(x, None, fourth=False), np.array([0.5, 0.0, 0.1])
    made = sample.scatter.factor(np.full(P, 0.4), ridge, ridge, None, True)
    if single:
        kept = of_samples(x)
        block, made = (
            kept[slice(None)].factor(np.full(P, 0.4), ridge, ridge, None, True),
            kept.empty_factor(True, float),
        )
        made[:] = block
    assert isinstance(made, Thin)
    scatter = sample.scatter
    check_factor(made, 0.4 * scatter.square() + ridge[:, None, None] * np.eye(C), precision=1e-12)


@pytest.mark.parametrize("ridge", [0.01, 0.0])
@pytest.mark.parametrize("n", [5, 20])
def test_what_is_kept_in_single_gives_what_double_gives(n, ridge):
    sample = block(n)
    made = factor(sample, 1 / (n - 1), ridge)
    arrays = {
        k: a.astype(np.float32) if k in ("root", "rows", "small") else a for k, a in made.arrays().items()
    }
    single = type(made)(**arrays)
    z = np.random.default_rng(1).normal(size=(P, 4, C))
    bound = (
        64 * np.sqrt(np.where(np.isinf(made.condition()), 1e3, made.condition()).max()) * np.finfo("f4").eps
    )
    np.testing.assert_allclose(single.squared_norms(z), made.squared_norms(z), rtol=bound)
    np.testing.assert_allclose(single.condition(), made.condition(), rtol=bound * 10)


@pytest.mark.parametrize(
    ("dtype", "unit"),
    [
        (np.float32, 1),
        (np.float32, 30),
        (np.float32, 3e3),
        (np.float64, 30),
        (np.float64, 1e6),
        (np.float64, 1e9),
    ],
)
def test_a_sample_twice_is_one_of_weight_two_however_small_the_ridge_is_beside_it(rng, tmp_path, dtype, unit):
    """Up to the root of the condition: rows that repeat others magnify no rounding."""
    x = frozen((unit * rng.standard_normal((8, 40))).astype(dtype))
    mean = x.mean(axis=0, dtype=float)
    new = np.concatenate(
        [unit * rng.standard_normal((3, 40)), mean + rng.standard_normal((3, 8)) @ (x - mean)]
    )
    which = np.array([0, 1, 2, 1, 3, 4, 5, 6, 7])
    want = MultiVariateGaussian(dtype=np.float64).fit(x, sample_weight=np.bincount(which))
    model = MultiVariateGaussian().fit(x[which])
    model.save(tmp_path / "m.npz", resumable=False)
    allowed = 60 * (1 + unit) * np.finfo(dtype).eps
    for m in (model, MultiVariateGaussian.load(tmp_path / "m.npz")):
        np.testing.assert_allclose(m.mahalanobis(new), want.mahalanobis(new), rtol=allowed)
        np.testing.assert_allclose(m.score_samples(new), want.score_samples(new), rtol=allowed)
    np.testing.assert_allclose(model.diagnostics()["condition"], want.diagnostics()["condition"], rtol=1e-5)
