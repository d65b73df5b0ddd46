"""Both forms of a scatter are held to the same laws against dense matrices."""

import numpy as np
import pytest
from common import blocks_of, frozen

from mvgauss._sample import Sample, rows_of
from mvgauss._scatter import Rows, Scatter, in_rows

P, C = 3, 12
COUNTS = [2, 3, 7, 8, 12, 13, 14, 40]  # rows up to 7 samples, triangles from 8 on


def samples(n, c=C, p=P):
    r = np.random.default_rng(n)
    return frozen(r.normal(size=(p, n, c)) * np.linspace(0.5, 2, c) + 3)


def weights(n, kind):
    w = np.random.default_rng(1).integers(0, 3, n) + 0.5 * (np.arange(n) == 0)
    return None if kind is None else frozen(w)


def dense(x, w):
    w = np.ones(x.shape[1]) if w is None else w
    mean = (w[:, None] * x).sum(axis=1) / w.sum()
    z = x - mean[:, None]
    length = (z**2).sum(axis=2)
    return (
        mean,
        np.einsum("n,pni,pnj->pij", w, z, z),
        np.einsum("n,pn,pni->pi", w, length, z),
        (w * length**2).sum(axis=1),
    )


def check_scatter(block, m):
    """Hold a block of scatters to the matrices that it stands for."""
    size = np.abs(m).max()
    np.testing.assert_allclose(block.square(), m, atol=1e-13 * size)
    assert (block.square() == block.square().swapaxes(1, 2)).all()
    i = np.arange(m.shape[1])
    np.testing.assert_allclose(block.diagonal, m[:, i, i], atol=1e-13 * size)
    v = np.linspace(-1, 2, m[:, 0].size).reshape(m.shape[0], -1)
    np.testing.assert_allclose(block.times(v), np.einsum("pij,pj->pi", m, v), atol=1e-12 * size)
    norms = block.norms()
    scale = np.ldexp(1.0, 2 * norms.exponent)
    trace = np.trace(m, axis1=1, axis2=2)
    np.testing.assert_allclose(norms.trace, trace, rtol=1e-12)
    np.testing.assert_allclose(norms.square * scale, (m**2).sum(axis=(1, 2)), rtol=1e-12)
    off = m - (trace / len(i))[:, None, None] * np.eye(len(i))
    np.testing.assert_allclose(norms.off * scale, (off**2).sum(axis=(1, 2)), rtol=1e-11)
    np.testing.assert_allclose(block.array.swapaxes(1, 2) @ block.array, m, atol=1e-13 * size)


@pytest.mark.parametrize("kind", [None, "weighted"])
@pytest.mark.parametrize("n", COUNTS)
def test_a_block_of_samples_has_the_moments_of_its_definition(n, kind):
    x, w = samples(n), weights(n, kind)
    part = Sample.of(x, w, fourth=True)
    mean, m, third, fourth = dense(x, w)
    check_scatter(part.scatter, m)
    np.testing.assert_allclose(part.mean, mean, rtol=1e-13)
    np.testing.assert_allclose(part.third, third, atol=1e-11 * np.abs(fourth).max())
    np.testing.assert_allclose(part.fourth, fourth, rtol=1e-11)
    assert part.weight == (n if w is None else w.sum())
    check_scatter(Sample.of(x, w, fourth=False).scatter, m)


@pytest.mark.parametrize("n", COUNTS)
def test_what_is_written_is_what_is_read(n):
    x = samples(n)
    m = dense(x, None)[1]
    kept = Scatter.empty(P, n, C)
    assert kept.rows == in_rows(n, C) == (n <= C and 2 * (n - 1) <= C + 1)
    assert kept.array.size == P * min((n - 1) * C, C * (C + 1) // 2) if kept.rows else P * C * (C + 1) // 2
    kept[slice(0, 2)] = Sample.of(x[:2], None, fourth=False).scatter
    kept[slice(2, 3)] = Sample.of(x[2:], None, fourth=False).scatter
    check_scatter(kept[slice(0, 3)], m)
    check_scatter(kept[slice(1, 2)], m[1:2])
    np.testing.assert_allclose(kept.diagonal, np.diagonal(m, axis1=1, axis2=2), rtol=1e-12)


@pytest.mark.parametrize("kind", [None, "weighted"])
@pytest.mark.parametrize("split", [(1, 1), (2, 3), (3, 4), (4, 4), (1, 12), (6, 30), (20, 1), (20, 20)])
def test_parts_merge_into_the_whole_across_the_boundary(split, kind):
    n = sum(split)
    x, w = samples(n), weights(n, kind)
    cut = split[0]
    parts = [
        Sample.of(x[:, s], None if w is None else w[s], fourth=True)
        for s in (slice(0, cut), slice(cut, None))
    ]
    mean, m, third, fourth = dense(x, w)
    for order in (parts, parts[::-1]):
        whole = order[0].merge(order[1])
        kept = Scatter.empty(P, n, C)
        kept[slice(None)] = whole.scatter
        check_scatter(kept[slice(None)], m)
        np.testing.assert_allclose(whole.mean, mean, rtol=1e-12)
        np.testing.assert_allclose(whole.third, third, atol=1e-11 * np.abs(fourth).max())
        np.testing.assert_allclose(whole.fourth, fourth, rtol=1e-10)


@pytest.mark.parametrize("n", [3, 6, 40])
def test_the_rows_of_any_weights_are_one_fewer_than_the_samples(n):
    x = samples(n)
    for w in (None, np.arange(n) * 1.0, np.eye(n)[0] + np.eye(n)[-1]):
        total = float(n if w is None else w.sum())
        mean, m, _, _ = dense(x, w)
        rows = rows_of(x.swapaxes(0, 1), mean, total, w)
        assert rows.array.shape == (P, n - 1, C)
        np.testing.assert_allclose(rows.square(), m, atol=1e-12 * np.abs(m).max())


def test_a_triangle_loses_half_as_many_digits_as_a_product():
    """A common component of a million standard deviations: products of its rows keep four digits."""
    r = np.random.default_rng(0)
    z = r.normal(size=(1, 60, C)) + 1e6 * r.normal(size=(1, 60, 1))
    z -= z.mean(axis=1, keepdims=True)
    want = np.linalg.svd(z[0], compute_uv=False)
    got = np.linalg.svd(Rows.triangular(z).array[0], compute_uv=False)
    np.testing.assert_allclose(got, want, rtol=1e-9)
    products = np.linalg.eigvalsh(z[0].T @ z[0])
    assert np.abs(np.sqrt(np.abs(products[0])) / want[-1] - 1) > 1e-7


@pytest.mark.parametrize("dead", [[0], [3, 4], [11], list(range(12))])
def test_features_without_variance_stay_exactly_so(dead):
    x = samples(40).copy()
    x[:, :, dead] = 7
    block = Sample.of(x, None, fourth=False).scatter
    assert not block.array[:, :, dead].any()
    check_scatter(block, dense(x, None)[1])


def test_long_samples_are_taken_in_runs_that_change_nothing(any_blocks):
    x = samples(300)
    for fourth in (False, True):
        check_scatter(Sample.of(x, None, fourth).scatter, dense(x, None)[1])
    x = x + 1e5 * np.random.default_rng(0).normal(size=(P, 300, 1))
    z = x - x.mean(axis=1, keepdims=True)
    got = np.linalg.svd(Sample.of(x, None, fourth=False).scatter.array, compute_uv=False)
    np.testing.assert_allclose(got, np.linalg.svd(z, compute_uv=False), rtol=1e-9)


def test_a_run_of_samples_without_weight_adds_nothing():
    x, w = frozen(np.random.default_rng(0).standard_normal((4, 7, 3))), np.array([0, 0, 0, 1, 2, 1, 3.0])
    with blocks_of(1):
        got = Sample.of(x, w, fourth=True)
    mean, m, third, fourth = dense(x, w)
    np.testing.assert_allclose(got.mean, mean, atol=1e-13)
    np.testing.assert_allclose(got.scatter.square(), m, atol=1e-12)
    np.testing.assert_allclose(got.third, third, atol=1e-11)
    np.testing.assert_allclose(got.fourth, fourth, rtol=1e-12)
