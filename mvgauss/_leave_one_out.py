"""Each fitted sample beside the others: its distance from the model without it."""

import numpy as np

from mvgauss import _blocks, _arguments
from mvgauss._arguments import Array
from mvgauss._distance import deviations
from mvgauss._embedding import Embedding
from mvgauss._fitted import Fitted
from mvgauss._fitting import fit
from mvgauss._leverage import OfMany, Others, of_few
from mvgauss._sample import Sample, rows_of
from mvgauss._sums import centre, shifted
from mvgauss._walks import OutOfRangeError, TooSmallError, Walk, least_patches


def loo_distances(fitted: Fitted, x: Embedding, weights: Array | None, walk: Walk) -> Array:
    """Return the distances ``(N, P)`` of the samples that were fitted from models without them."""
    n, c, p = x.n_samples, x.n_features, x.n_patches
    w = np.ones(n) if weights is None else weights
    others = Others(fitted.regularisation, w, fitted.sum_weights)
    if not (others.divisor > 0).all():
        _arguments.raise_error(
            "embedding", f"more than ddof = {others.how.ddof:g} samples besides each one", f"{n} samples"
        )
    result = np.empty((p, n))
    lost = np.empty((p, n), bool)
    moved = np.zeros((p, c))
    few = n - 1 <= c
    parts = [(slice(0, n), x.whole())] if few else x.parts()
    for part, stack in parts:
        x.raise_if_not_finite(part, stack)
        blocks = _blocks.flat(stack, 2, x.grid)

        def task(b: slice, part: slice = part, blocks: _blocks.Flat = blocks) -> None:
            with np.errstate(all="ignore"):
                block, mean = blocks[b], fitted.mean[b]
                if few:
                    squared, gone, shift = _few(fitted, block, weights, others, mean)
                    result[b], lost[b], moved[b] = squared, gone, shift
                else:
                    sample = fitted.sample(b)
                    closed = OfMany(sample, fitted.noise(sample), others)
                    for run in _blocks.slices(block.shape[1], 4 * len(block) * c * 8):
                        v = deviations(block[:, run], mean)
                        some = slice(part.start + run.start, part.start + run.stop)
                        result[b, some], lost[b, some] = closed.of(v, some)
                        moved[b] += np.matmul(w[some], v)
            if not np.isfinite(result[b, part]).all():
                raise OutOfRangeError

        try:
            fitted.walk(task, max(n, c) * c * 8, walk, least_patches(c, c))
        except OutOfRangeError:
            x.raise_not_finite(part, stack)
    _raise_if_other_samples(fitted, moved)
    try:
        _refit(fitted, x, weights, result, lost, walk)
    except OutOfRangeError as error:
        x.raise_not_finite(part, stack, small=isinstance(error, TooSmallError))
    return np.sqrt(result, out=result).T


def _few(
    fitted: Fitted, block: Array, weights: Array | None, others: Others, mean: Array
) -> tuple[Array, Array, Array]:
    """Return squared distances, where they are lost, and by how much the mean is another, of a block."""
    given = [] if weights is None else [np.broadcast_to(weights, block.shape[:2])] * 2
    _, _, own, offset, z = shifted(block, *given, dtype=np.dtype(np.float64))
    rows = rows_of(z, offset, fitted.sum_weights, weights)
    third, fourth = (None, None)
    if fitted.regularisation.needs_fourth:
        whole = Sample.of(block, weights, fourth=True)
        third, fourth = whole.third, whole.fourth
    sample = Sample(fitted.sum_weights, own, rows, third, fourth)
    if not np.isfinite(rows.trace).all():
        raise OutOfRangeError
    z = centre(z, offset, *given).swapaxes(0, 1)
    squared, lost = of_few(sample, z, fitted.noise(sample), others)
    return squared, lost, (own - mean) * fitted.sum_weights


def _refit(
    fitted: Fitted, x: Embedding, weights: Array | None, squared: Array, lost: Array, walk: Walk
) -> None:
    """Fit anew, without the sample, where the closed form has lost the digits."""
    w = np.ones(x.n_samples) if weights is None else weights
    wanted = np.flatnonzero(lost.any(axis=1))
    size = x.n_samples * x.n_features * 8
    for some in _blocks.slices(len(wanted), size, least=max(1, (64 << 20) // size)):
        patches = wanted[some]
        samples = x.samples(patches)
        for i in np.flatnonzero(lost[patches].any(axis=0)):
            at = np.flatnonzero(lost[patches, i])
            left = np.delete(samples[at], i, axis=1)
            model = fit(
                left,
                None if weights is None else np.delete(w, i),
                dtype=np.dtype(np.float64),
                how=fitted.regularisation,
                factor=True,
                walk=Walk(walk.n_jobs),
            )
            out = np.empty((len(at), 1))
            model.score(samples[at][:, i : i + 1], out, lambda _, f, z: f.squared_norms(z), Walk(walk.n_jobs))
            squared[patches[at], i] = out[:, 0]


def _raise_if_other_samples(fitted: Fitted, moved: Array) -> None:
    """Refuse samples of another mean: their weighted sum of deviations, ``(P, C)``, is not zero."""
    variance = fitted.moments.diagonal / fitted.sum_weights
    eps = float(np.finfo(np.float64).eps)
    allowed = eps ** (1 / 3) * np.sqrt(variance) + 8 * fitted.n_samples * eps * np.abs(fitted.mean)
    if (np.abs(moved) > fitted.sum_weights * allowed).any():
        _arguments.raise_error(
            "embedding",
            f"the {fitted.n_samples} samples that were fitted",
            "others: their mean is not that of the model",
        )
