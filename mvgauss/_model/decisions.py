"""State and good images -> laws of distances, limits, and decisions by them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np

from mvgauss import _arguments
from mvgauss._arguments import Array, DefaultThresholdWarning
from mvgauss._linalg.precision import Precision
from mvgauss._linalg.whitening import EPS
from mvgauss._model import scoring
from mvgauss._model.embedding import Embedding
from mvgauss._model.fitting import Walk
from mvgauss._model.leave_one_out import leave_one_out, raise_if_other_samples
from mvgauss._model.state import Calibration, Limit, State
from mvgauss._stats import distributions
from mvgauss._stats.conformal import conformal_p_value

Law = Literal["hotelling", "hotelling-bound", "leave-one-out", "chi2"]

#: The rate of good images beyond a default limit, if embeddings are Gaussian.
_DEFAULT_RATE = 0.05

#: What errors and warnings say to who only wants an order.
_NO_LIMIT_NEEDED = (
    "to rank images, as for an AUC, score_samples and the largest distance of each image need no limit"
)

#: A sum tells images apart where its rounding is smaller than this part of its standard deviation.
_TELLING = 1 / 256


class Hotelling(NamedTuple):
    r"""The law of :math:`T^2 = f d^2`: exact, or with f such that :math:`f d^2 \le T^2`.

    A regularised covariance is :math:`\hat\Sigma \succeq (1 - \rho) S`, so that
    :math:`(1 - \rho)\, d^2 \le (x - \bar x)^T S^{-1} (x - \bar x)`: the probability of a larger
    :math:`T^2` than :math:`(1 - \rho)\, d^2` is at least that of a larger :math:`d^2`.
    """

    n: float  #: of samples; infinite for a known Gaussian
    factor: Array  #: f, (P,)

    @classmethod
    def of(cls, state: State) -> Hotelling:
        """Return the law of a state with more samples than features, or of parameters alone."""
        if not state.n_samples:
            return cls(math.inf, np.ones(state.n_patches))
        n = state.sum_weights  # a weight counts how often a sample is there
        assert state.intensity is not None
        # from the divisor of the model to n - 1
        return cls(n, (1 - state.intensity) * (n - 1) / (n - state.regularisation.ddof))


def law_of(state: State) -> Law | None:
    """Return the law that p-values follow, None if there is none."""
    if state.calibration is not None:
        return "leave-one-out"
    if not state.n_samples:
        return "chi2"
    if state.weighted or state.n_samples <= state.n_features:
        return None
    return "hotelling-bound" if state.regularisation.regularises else "hotelling"


def required_law(state: State) -> Law:
    """Return the law, which there has to be."""
    law = law_of(state)
    if law is None:
        weights = " with weights other than 1" if state.weighted else ""
        raise ValueError(
            "p_value: expected a model whose distances have a known law, got one of "
            f"{state.n_samples} samples of {state.n_features} features{weights}; rank them among the "
            "leave-one-out distances of the fitted images: model.calibrate(train)"
        )
    return law


def p_value(state: State, x: Embedding, walk: Walk) -> Array:
    """Return the probabilities of larger distances, ``(M, *grid)``."""
    if required_law(state) == "leave-one-out":
        assert state.calibration is not None
        good = state.calibration.distances

        def kernel(b: slice, precision: Precision, z: Array) -> Array:
            d = np.sqrt(precision.squared_norms(z)).astype(state.dtype, copy=False)
            return distributions.rank_among(d, good[b])

    else:
        law = Hotelling.of(state)

        def kernel(b: slice, precision: Precision, z: Array) -> Array:
            squared = law.factor[b, None] * precision.squared_norms(z)
            return distributions.sf(squared, law.n, precision.rank[:, None])

    return scoring.score(kernel, state, x, walk)


def image_p_value(state: State, x: Embedding, walk: Walk) -> Array:
    """Return the ranks of the largest distances among those of calibration, ``(M,)``."""
    good = None if state.calibration is None else state.calibration.largest
    if good is None:
        raise ValueError(
            "image_p_value: expected a model with leave-one-out distances of whole images, got one "
            "without; call calibrate(embedding) with the fitted images"
        )
    return conformal_p_value(largest(scoring.mahalanobis(state, x, walk)), good)


def limit_of(state: State) -> float:
    """Return the limit that was set, or else the default one."""
    return default_limit(state) if state.limit is None else state.limit.value


def default_limit(state: State) -> float:
    """Return the distance that some patch of a good image exceeds with a probability of at most 5 %."""
    if state.calibration is not None:
        good = state.calibration.largest
        if good is not None and _DEFAULT_RATE * (len(good) + 1) >= 1:
            return distributions.conformal_limit(good, _DEFAULT_RATE)
    elif not state.n_samples or state.sum_weights > state.n_features:
        law = Hotelling.of(state)
        if (law.factor > 0).all():  # an intensity of 1 leaves nothing of S
            rate = _DEFAULT_RATE / state.n_patches  # Bonferroni
            # nearly all patches share one rank, and inverse distributions take long
            ranks, of_patch = np.unique(state.required_precision().rank, return_inverse=True)
            with np.errstate(over="ignore", divide="ignore"):  # weights may add up to hardly more than C
                squared = distributions.isf(rate, law.n, ranks)[of_patch] / law.factor
            if np.isfinite(squared).all():
                return math.sqrt(squared.max())
    raise ValueError(
        "threshold_: expected a model with a limit, got none, and no law gives one for "
        f"{state.n_samples} samples of {state.n_features} features regularised so; set one with the fitted "
        "images, model.threshold(train, 0.05, source='training'), or with other good ones, "
        f"model.threshold(good, 0.05); {_NO_LIMIT_NEEDED}"
    )


def decision_function(state: State, x: Embedding, walk: Walk) -> Array:
    """Return (limit^2 - d^2) / 2 of the largest distance of each image, ``(M,)``."""
    limit = limit_of(state)
    _warn_of_limit(state)
    d = largest(scoring.mahalanobis(state, x, walk)).astype(np.float64)
    with np.errstate(over="ignore"):  # of a limit that was set so that nothing reaches it
        return np.asarray((limit - d) * (limit + d) / 2)


def offset(state: State) -> Array:
    """Return the log density at the limit, of the shape of the grid."""
    precision = state.required_precision()
    squared = np.square(limit_of(state))
    return distributions.log_density(squared, precision.rank, precision.log_pdet).reshape(state.shape)


def calibrated(state: State, x: Embedding, weights: Array | None, walk: Walk) -> State:
    """Return the same state with the leave-one-out distances of the fitted images."""
    d = _left_out_of_good(state, x, weights, walk)
    distances = np.sort(np.ascontiguousarray(d.reshape(len(d), -1).T), axis=1)
    return replace(state, calibration=Calibration(distances, np.sort(largest(d))))


def limit_of_training(state: State, x: Embedding, weights: Array | None, rate: float, walk: Walk) -> float:
    """Return the limit from the leave-one-out distances of the fitted images, stored or computed."""
    good = None if state.calibration is None else state.calibration.largest
    if good is None or state.weighted:
        good = largest(_left_out_of_good(state, x, weights, walk))
    else:
        sums = sum((_sums(x, stack) for _, stack in x.parts()), np.zeros(()))
        raise_if_other_samples(state, sums - state.n_samples * state.mean)
    return distributions.conformal_limit(good, rate)


def limit_of_held_out(state: State, x: Embedding, rate: float, walk: Walk) -> float:
    """Return the limit from the distances of good images, which the fitted ones are refused to be."""
    as_many = x.n_samples == state.n_samples and not state.weighted and state.moments is not None
    scores, sums = [], np.zeros(())
    for part, stack in x.parts():  # which are read once
        scores.append(scoring.score_stack(scoring.distances, state, stack, x, part, walk))
        if as_many:
            sums = sums + _sums(x, stack)
    if as_many and _is_mean_of(state, x, sums):
        _arguments.raise_error(
            "embedding",
            "good images that were not fitted",
            "fitted ones",
            hint="use source='training' for these",
        )
    return distributions.conformal_limit(np.concatenate(scores, axis=1).max(axis=0), rate)


def with_limit(state: State, value: float) -> State:
    """Return the same state with a limit."""
    return replace(state, limit=Limit(value, state.n_samples))


def largest(distances: Array) -> Array:
    """Return the largest distance of each image."""
    return np.asarray(distances.reshape(len(distances), -1).max(axis=1))


def _warn_of_limit(state: State) -> None:
    """Warn of a limit that nobody set, or that was set for fewer samples."""
    setting = "set one with threshold(good_images, false_positive_rate)"
    if state.limit is None:
        _arguments.warn(
            "no limit was set, so the default is used, which at most 5 % of good images exceed if embeddings "
            f"are Gaussian, and those of networks are not; {setting}; {_NO_LIMIT_NEEDED}",
            DefaultThresholdWarning,
        )
    elif state.limit.n_samples != state.n_samples:
        _arguments.warn(
            f"the limit was set when {state.limit.n_samples} samples were fitted, and now there are "
            f"{state.n_samples}; {setting}",
            DefaultThresholdWarning,
        )


def _left_out_of_good(state: State, x: Embedding, weights: Array | None, walk: Walk) -> Array:
    """Return the leave-one-out distances of the images that have a weight.

    Pseudo-inverses that lose a direction with an image are refused.
    """
    n = state.n_samples if weights is None else np.count_nonzero(weights)
    if state.n_samples and not state.regularisation.regularises and n <= state.n_features + 1:
        _arguments.raise_error(
            "embedding",
            f"more than C + 1 = {state.n_features + 1} samples for leave-one-out limits without a ridge",
            f"{n}",
            hint="without one of them a pseudo-inverse loses a direction; set reg_covar or shrinkage, or use "
            "good images that were not fitted",
        )
    d = leave_one_out(state, x, weights, walk)
    return d if weights is None else d[weights > 0]


def _sums(x: Embedding, stack: Array) -> Array:
    """Return the sums of samples ``(*grid, M, C)``, ``(P, C)``."""
    sums = stack.sum(axis=-2, dtype=np.float64)
    return np.asarray(sums.reshape(x.n_patches, x.n_features))


def _is_mean_of(state: State, x: Embedding, sums: Array) -> bool:
    """Return whether as many images have the mean of the fitted ones, wherever that tells them apart."""
    n = state.n_samples
    spread = np.sqrt(state.variance())
    size = spread + np.abs(state.mean)
    given, fitted = _arguments.epsilon(x.dtype), state.resolution
    resolution = 0 if given == fitted else max(given, fitted)  # of a copy in half or single precision
    rounding = (64 * n * EPS + 2 * resolution / math.sqrt(n)) * size
    telling = rounding < _TELLING * spread / math.sqrt(n)
    same = np.abs(sums / n - state.mean) <= rounding
    return bool(telling.any() and same[telling].all())
