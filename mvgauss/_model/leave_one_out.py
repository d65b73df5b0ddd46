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
    # of few samples all are needed at once: rows may be in single precision, which loses leverages
    few = n <= c
    parts = [(slice(0, n), x.whole())] if few else x.parts()
    squared, lost = np.empty((x.n_patches, n)), np.empty((x.n_patches, n), bool)
    moved = np.zeros((x.n_patches, c))
    for part, stack in parts:
        x.raise_if_not_finite(part, stack)
        samples = blocks.flat(stack, 2, x.grid)

        def kernel(b: slice, part: slice = part, samples: Any = samples) -> tuple[Array, Array, Array]:
            block, mean = samples[b], state.mean[b]
            others = _others(state, b, block if few else None, w)
            distances, lost, moved = [], [], np.zeros(mean.shape)
            for run in blocks.slices(block.shape[1], 4 * len(block) * c * 8):
                v = deviations(block[:, run], mean)
                numbers = slice(part.start + run.start, part.start + run.stop)
                run_distances, run_lost = others.closed_form(v, numbers)
                distances.append(run_distances)
                lost.append(run_lost)
                moved += np.matmul(w[numbers], v)
            return np.concatenate(distances, axis=1), np.concatenate(lost, axis=1), moved

        item_bytes, least = max(n, c) * c * 8, sharing_cache_lines(c, c)
        squared[:, part], lost[:, part], part_moved = walk(kernel, x.n_patches, item_bytes, least)
        moved += part_moved
    _raise_if_other_samples(state, moved)
    _refit(state, x, w, squared, lost)
    if not np.isfinite(squared).all():
        raise OutOfRangeError(TOO_LARGE)
    return np.asarray(x.pictures(np.sqrt(squared, out=squared).astype(state.dtype, copy=False)))


def _others(state: State, b: Any, block: Array | None, weights: Array) -> LeaveOneOut:
    """Return the leave-one-out distances of a block of patches, from its samples if these are given."""
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
        others = _others(state, chosen, None, weights)

        def refit(
            i: int, chosen: Array = chosen, samples: Array = samples, others: LeaveOneOut = others
        ) -> None:
            at = np.flatnonzero(lost[chosen, i])
            squared[chosen[at], i] = others.refitted(samples[at], i, at)

        blocks.run(refit, np.flatnonzero(lost[chosen].any(axis=0)).tolist())


def _raise_if_other_samples(state: State, moved: Array) -> None:
    """Refuse samples of another mean: their weighted sum of deviations, ``(P, C)``, is not zero."""
    allowed = EPS ** (1 / 3) * np.sqrt(state.variance()) + 8 * state.n_samples * EPS * np.abs(state.mean)
    if (np.abs(moved) > state.sum_weights * allowed).any():
        _arguments.raise_error(
            "embedding",
            f"the {state.n_samples} samples that were fitted",
            "others: their mean is not that of the model",
        )
