"""The sweep: distances err by no more than is stated, whatever the samples and the road to a model."""

import itertools

import numpy as np
import pytest
import scipy.linalg
from common import EPS, SINGLE, frozen, quietly

from mvgauss import MultiVariateGaussian
from mvgauss.testing import svd_gaussian

KINDS = [
    *("plain", "far from zero", "one dominant feature", "nearly singular", "units"),
    *("uneven ReLU", "softmax", "spectrum of 1/k^2", "pictures"),
]
ROADS = ["fit", "stream", "merge", "load"]


def samples(kind, n, c):
    """Return n samples of c features, and four more."""
    rng = np.random.default_rng(1000 * n + c)
    x = rng.standard_normal((n + 4, c)) @ (np.eye(c) + 0.3 * rng.standard_normal((c, c)))
    if kind == "far from zero":
        x += 1e6
    elif kind == "one dominant feature":
        x[:, c // 2] *= 1e4
    elif kind == "nearly singular":
        x[:, 0] = x[:, 1:].mean(axis=1) + 1e-4 * rng.standard_normal(n + 4)
    elif kind == "units":
        x *= np.geomspace(1e-4, 1e5, c)
    elif kind == "uneven ReLU":
        x = np.maximum(x, 0) * np.exp(1.5 * rng.standard_normal(c))
    elif kind == "softmax":
        x = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
    elif kind == "spectrum of 1/k^2":
        x = rng.standard_normal((n + 4, c)) / np.arange(1, c + 1) ** 2
        x = x @ np.linalg.qr(rng.standard_normal((c, c)))[0]
    elif kind == "pictures":
        x = np.rint(30000 + 12000 * rng.standard_normal((n + 4, 1)) + 100 * x)
    return frozen(x[:n]), frozen(x[n:])


def oracle(x, y, ridge):
    """Return distances from S + ridge I, its condition, how far the mean is in the least sd, and its rank.

    S + ridge I = A^T A with the centred samples and sqrt(ridge) I as rows of A. The triangular factor of A is
    computed from A itself, of features of any unit: nothing is squared. Singular ones are those of the kit.
    """
    n, c = x.shape
    mean = x.mean(axis=0)
    mean = mean + (x - mean).mean(axis=0)
    a = np.concatenate([(x - mean) / np.sqrt(n - 1), np.sqrt(ridge) * np.eye(c)])
    unit = np.linalg.norm(a, axis=0)
    unit[unit == 0] = 1
    r = np.linalg.qr(a / unit, mode="r")
    values = np.linalg.svd(r if n > c else a, compute_uv=False)  # of few samples units of features count
    if not ridge and (n <= c or values[-1] < 1e-7 * values[0]):
        model = svd_gaussian(x, reg_covar=0)
        d, sd = model.mahalanobis(y), np.sqrt(model.variances)
        # deviations round to their size, the mean to that of samples, and what is off the support cancels
        size = np.linalg.norm(y - mean, axis=1) + sd.max()
        root, offset = max(sd.max(), (size / d).max()), np.linalg.norm(mean) / d.min()
        return d, (root / sd.min()) ** 2, offset / sd.min(), model.rank
    d = np.linalg.norm(scipy.linalg.solve_triangular(r, ((y - mean) / unit).T, trans="T"), axis=0)
    offset = np.abs(mean / unit).max() * np.linalg.norm(np.linalg.inv(r), 2)
    return d, (values[0] / values[-1]) ** 2, offset, c


def fitted(road, x, folder, **options):
    """Fit the samples ``(N, C)`` of one patch in one of several ways."""
    model, parts = MultiVariateGaussian(**options), [x[:1], x[1 : len(x) // 3 + 1], x[len(x) // 3 + 1 :]]
    if road == "stream":
        for part in parts:
            if len(part):
                model.partial_fit(part)
    elif road == "merge":
        for part in parts[::-1]:
            if len(part):
                model.merge(MultiVariateGaussian(**options).partial_fit(part))
    else:
        model.fit(x)
    if road == "load":
        model.save(folder / "model.npz", resumable=False)
        model = MultiVariateGaussian.load(folder / "model.npz")
    return model


@pytest.mark.filterwarnings("ignore::mvgauss.FewSamplesWarning")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("c", [3, 40, pytest.param(150, marks=pytest.mark.slow)])
def test_distances_err_by_no_more_than_is_stated(kind, c, tmp_path):
    for n, ridge in itertools.product(sorted({2, c // 2 + 1, c, c + 1, 4 * c}), [0.01, 1e-6, 0.0]):
        x, y = samples(kind, n, c)
        want, condition, offset, rank = oracle(x, y, ridge)
        if kind == "units" and n == c and not ridge:
            continue  # a square that is singular has the rank that the largest variance leaves it
        few = n <= c and 2 * (n - 1) <= c + 1
        for dtype, eps in (("float64", EPS), ("float32", SINGLE)):
            # roots of conditions, but where a square is factored; a double mean is rounded far from zero
            allowed = 8 * (np.sqrt(condition) * eps + offset * EPS + (0 if few else condition * EPS))
            for road in ROADS:
                model = fitted(road, x, tmp_path, reg_covar=ridge, dtype=dtype)
                case = f"n = {n}, ridge {ridge}, {dtype}, {road}"
                assert model.rank == [rank], case
                error = np.abs(model.mahalanobis(y) / want - 1).max()
                assert error <= allowed, f"{case}: {error / allowed:.3g} times the bound"


@pytest.mark.parametrize("factor", [100, 1e3, 1e4])
@pytest.mark.parametrize("road", ROADS)
def test_few_samples_in_single_precision_beside_a_dominant_feature_keep_their_distances(
    factor, road, tmp_path
):
    few, new = (np.random.default_rng(seed).standard_normal((5, 12)).astype(np.float32) for seed in (0, 1))
    few[:, 0] *= factor
    new[:, 0] *= factor
    model, double = (quietly(fitted, road, few, tmp_path, dtype=d) for d in ("float32", "float64"))
    condition = double.diagnostics()["condition"]
    for x in (few, new):
        d = double.mahalanobis(x)
        np.testing.assert_allclose(model.mahalanobis(x), d, rtol=4 * np.sqrt(condition) * SINGLE)
        parts, d2 = model.contributions(x), model.mahalanobis(x, squared=True)
        np.testing.assert_allclose(parts.sum(axis=1), d2, rtol=1e-5)
    np.testing.assert_allclose(double.mahalanobis(few), oracle(few, few, 0.01)[0], rtol=1e-4)
