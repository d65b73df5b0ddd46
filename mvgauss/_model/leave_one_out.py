"""The fitted embedding -> its leave-one-out distances: in closed form, refitted where that loses digits."""

from typing import Any

import numpy as np

from mvgauss import _arguments
from mvgauss._arguments import Array
from mvgauss._linalg.whitening import EPS
from mvgauss._model.embedding import TOO_LARGE, Embedding, OutOfRangeError
from mvgauss._model.fitting import Walk
from mvgauss._model.state import State
from mvgauss._runtime import blocks
from mvgauss._stats.distance import deviations
from mvgauss._stats.leave_one_out import LeaveOneOut
from mvgauss._stats.moments import Moments, sharing_cache_lines

#: So many bytes of samples are refitted at once.
_REFITTED_BYTES = 64 << 20


def leave_one_out(state: State, x: Embedding, weights: Array | None, walk: Walk) -> Array:
    """Return distances ``(N, *grid)`` of the samples that were fitted from models without them."""
    n, c = x.n_samples, x.n_features
    w = np.ones(n) if weights is None else weights
    ddof = state.regularisation.ddof
    if not (state.sum_weights - w > ddof).all():
        wanted = f"more than ddof = {ddof:g} samples besides each one"
        _arguments.raise_error("embedding", wanted, f"{n} samples")
    # rows, which may be in single precision, lose leverages: they are computed again from all samples at once
    at_once = n <= c
    parts = [(slice(0, n), x.whole())] if at_once else x.parts()
    squared, lost = np.empty((x.n_patches, n)), np.empty((x.n_patches, n), bool)
    moved = np.zeros((x.n_patches, c))
    for part, stack in parts:
        x.raise_if_not_finite(part, stack)
        samples = blocks.flat(stack, 2, x.grid)

        def kernel(b: slice, part: slice = part, samples: Any = samples) -> tuple[Array, Array, Array]:
            block, mean = samples[b], state.mean[b]
            left_out = _left_out(state, b, block if at_once else None, w)
            squared, lost = np.empty(block.shape[:2]), np.empty(block.shape[:2], bool)
            moved = np.zeros(mean.shape)
            for weight in np.unique(w[part]):
                precision = left_out.precision_without(weight)
                same = np.flatnonzero(w[part] == weight)
                for run in blocks.slices(len(same), 4 * len(block) * c * 8):
                    i = same[run]
                    v = deviations(block[:, i], mean)
                    squared[:, i], lost[:, i] = left_out.closed_form(v, weight, precision)
                    moved += weight * v.sum(axis=1)
            return squared, lost, moved

        item_bytes, least = max(n, c) * c * 8, sharing_cache_lines(c, c)
        squared[:, part], lost[:, part], part_moved = walk(kernel, x.n_patches, item_bytes, least)
        moved += part_moved
    raise_if_other_samples(state, moved)
    if lost.any():
        _refit(state, x, w, squared, lost)
    if not np.isfinite(squared).all():
        raise OutOfRangeError(TOO_LARGE)
    return np.asarray(x.pictures(np.sqrt(squared, out=squared).astype(state.dtype, copy=False)))


def raise_if_other_samples(state: State, moved: Array) -> None:
    """Refuse samples of another mean: the sum of their weighted deviations, ``(P, C)``, is not zero."""
    allowed = EPS ** (1 / 3) * np.sqrt(state.variance()) + 8 * state.n_samples * EPS * np.abs(state.mean)
    if (np.abs(moved) > state.sum_weights * allowed).any():
        _arguments.raise_error(
            "embedding",
            f"the {state.n_samples} samples that were fitted",
            "others: their mean is not that of the model",
        )


def _left_out(state: State, b: Any, block: Array | None, weights: Array) -> LeaveOneOut:
    """Return the leave-one-out formulas of a block of patches, with the moments of its samples if given."""
    moments = state.required_moments()[b]
    eps = float(np.finfo(state.dtype).eps)  # in which the rows of a stream may have been
    if block is not None:
        eps = EPS
        shared = np.broadcast_to(weights, block.shape[:2])
        fourth = state.regularisation.needs_fourth
        moments = Moments.of_block(block, shared, shared, in_rows=True, fourth=fourth)
    return LeaveOneOut(moments, weights, state.regularisation, state.resolution, eps)


def _refit(state: State, x: Embedding, weights: Array, squared: Array, lost: Array) -> None:
    """Write the distances from models that are fitted anew, where the closed form has lost the digits."""
    patches = np.flatnonzero(lost.any(axis=1))
    sample_bytes = x.n_samples * x.n_features * 8
    for run in blocks.slices(len(patches), sample_bytes, least=max(1, _REFITTED_BYTES // sample_bytes)):
        chosen = patches[run]
        samples = x.samples(chosen)
        left_out = _left_out(state, chosen, None, weights)

        def refit(
            i: int, chosen: Array = chosen, samples: Array = samples, left_out: LeaveOneOut = left_out
        ) -> None:
            at = np.flatnonzero(lost[chosen, i])
            squared[chosen[at], i] = left_out.refitted(samples[at], i, at)

        blocks.run(refit, np.flatnonzero(lost[chosen].any(axis=0)).tolist())
