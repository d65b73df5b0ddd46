"""What the images that a model was fitted to tell about it: each beside the others, and their tails."""

from __future__ import annotations

import numpy as np

from mvgauss import _blocks, _checks, _scores, _triangles, _whitening
from mvgauss._checks import Array
from mvgauss._fitted import FREELY, Fitted, Walk, least_patches, on_grid, refuse_not_finite


def leave_one_out(
    fitted: Fitted, x: Array, weights: Array | None, out: Array, moved: Array, walk: Walk = FREELY
) -> None:
    r"""Write the distances ``(*grid, N)`` of the samples from models without them into `out`.

    And into `moved`, ``(*grid, C)``, their weighted sum of deviations from the mean.

    With the weight w of a sample, :math:`W' = W - w`, the divisor D of the others and their
    scatter :math:`M - a v v^T`, :math:`a = w W / W'`, their covariance is

    .. math:: g (M + r I - a v v^T), \quad g = (1 - \rho) / D,
       \quad g r = \varepsilon + \rho \operatorname{tr}(M - a v v^T) / (D C) .
    """
    *grid, n, c = x.shape
    how = fitted.how
    w = np.ones(n) if weights is None else weights
    others = fitted.sum_weights - w
    with np.errstate(all="ignore"):
        divisor = others - how.ddof * (fitted.sum_squared_weights - w * w) / others
    if not (divisor > 0).all():
        _checks.refuse("embedding", f"more than ddof = {how.ddof:g} samples besides each one", f"{n} samples")
    a, stretch = w * fitted.sum_weights / others, fitted.sum_weights / others
    rho = float(how.shrinkage or 0.0)
    equal = not rho and (not how.reg_covar or np.ptp(divisor) == 0)

    def kernel(x: Array, mean: Array, scatter: Array, *_: Array) -> tuple[Array, ...]:
        m = _triangles.unpack(scatter, c)
        i = np.arange(c)
        spread = m[:, i, i].sum(axis=1)[:, None]
        if equal:
            m[:, i, i] += how.reg_covar * divisor[0]
            eps = float(np.finfo(m.dtype).eps)
            factor = _whitening.whiten(m, np.asarray(c * eps), eps).factor
        else:
            values, vectors = np.linalg.eigh(m)

        def of_run(run: slice) -> tuple[Array]:
            v = _whitening.deviations(x[:, run], mean)
            d, out, far = divisor[run], a[run], stretch[run]
            if equal:
                return (np.sqrt(d * _scores.downdated(v, factor, out, far, how.reg_covar > 0)),)
            length = np.vecdot(v, v)
            trace = spread - out * length
            rounding = 64 * np.finfo(trace.dtype).eps * spread
            trace = np.where(trace > rounding, trace, 0)
            if rho == 1:  # nothing but a multiple of the identity remains
                return (far * np.sqrt(_quotient(length, how.reg_covar + trace / (d * c))),)
            ridge = (how.reg_covar * d + rho * trace / c) / (1 - rho)
            y = np.matmul(v, vectors)
            q = _quotient(y * y, np.maximum(values, 0)[:, None] + ridge[..., None]).sum(axis=-1)
            left = np.maximum(1 - out * q, np.finfo(q.dtype).eps)
            return (far * np.sqrt(np.where(ridge > 0, d / (1 - rho) * q / left, 0)),)

        moved = np.zeros(mean.shape, fitted.working)
        for run in _blocks.slices(n, len(x) * c * fitted.working.itemsize):
            v = _whitening.deviations(x[:, run], mean)
            moved += np.matmul(w[run].astype(fitted.working), v)
        with np.errstate(all="ignore"):
            distances = _blocks.over_rows(of_run, n, 4 * len(x) * c * fitted.working.itemsize)
        refuse_not_finite(distances[0])
        return *distances, moved

    _blocks.over_stack(
        kernel,
        tuple(grid),
        [(x, 2), *((on_grid(grid, k), k.ndim - 1) for k in fitted.kept())],
        [out, moved],
        item_bytes=max(n, c) * c * fitted.working.itemsize,
        least=least_patches(c * c * fitted.working.itemsize),
        n_jobs=walk.n_jobs,
        progress=walk.progress,
    )


def refuse_other_samples(fitted: Fitted, moved: Array) -> None:
    """Refuse samples of another mean: their weighted sum of deviations, ``(P, C)``, is not zero."""
    assert fitted.scatter is not None
    i = np.arange(fitted.n_features)
    variance = fitted.scatter[:, i * (i + 3) // 2] / fitted.sum_weights  # the diagonals of the triangles
    eps = float(np.finfo(fitted.working).eps)
    allowed = eps ** (1 / 3) * np.sqrt(variance) + 8 * fitted.n_samples * eps * np.abs(fitted.mean)
    if (np.abs(moved) > fitted.sum_weights * allowed).any():
        _checks.refuse(
            "embedding",
            f"the {fitted.n_samples} samples that were fitted",
            "others: their mean is not that of the model",
        )


def kurtosis(fitted: Fitted, x: Array, out: Array, expected: Array, walk: Walk = FREELY) -> None:
    """Write the share of some samples ``(*grid, N, C)`` in Mardia's kurtosis, and what is expected."""
    *grid, rows, c = x.shape
    n = fitted.n_samples

    def kernel(x: Array, mean: Array, scatter: Array, *_: Array) -> tuple[Array, Array]:
        m = _triangles.unpack(scatter, c)
        m /= n
        eps = float(np.finfo(m.dtype).eps)
        w = _whitening.whiten(m, np.asarray(c * eps), eps)

        def of_run(run: slice) -> tuple[Array]:
            return (_whitening.squared_norms(_whitening.deviations(x[:, run], mean), w.factor),)

        (squared,) = _blocks.over_rows(of_run, rows, 2 * len(x) * c * fitted.working.itemsize)
        r = w.rank
        return (squared**2).sum(axis=1) / n, r * (r + 2.0) * (n - 1) / (n + 1)

    _blocks.over_stack(
        kernel,
        tuple(grid),
        [(x, 2), *((on_grid(grid, k), k.ndim - 1) for k in fitted.kept())],
        [out, expected],
        item_bytes=max(rows, c) * c * fitted.working.itemsize,
        least=least_patches(c * c * fitted.working.itemsize),
        n_jobs=walk.n_jobs,
    )


def _quotient(a: Array, b: Array) -> Array:
    """Return a / b, and 0 where b is 0: a direction in which nothing varies does not count."""
    return np.asarray(np.divide(a, b, out=np.zeros(np.broadcast_shapes(a.shape, b.shape)), where=b > 0))
