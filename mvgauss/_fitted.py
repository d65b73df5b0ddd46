"""What a fitted model keeps: the moments of a grid of patches, and the factors made from them.

A `Fitted` does not change, except that its factors are kept once they are computed. New data give a new one.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Self, TypeVar

import numpy as np

from mvgauss import _blocks, _arguments, _distributions, _shrinkage
from mvgauss._arguments import Array
from mvgauss._distance import deviations
from mvgauss._distributions import Distribution
from mvgauss._factor import Factor
from mvgauss._locks import Lock
from mvgauss._sample import Sample
from mvgauss._scatter import Scatter
from mvgauss._shrinkage import Regularisation
from mvgauss._thin import Thin, of_arrays
from mvgauss._walks import FREELY, OutOfRangeError, Walk, least_patches
from mvgauss._warnings import warn_if_few

T = TypeVar("T", Array, Factor)

#: To read so many bytes takes one thread less time than two, one of which has to be started.
_LITTLE = 8 * _blocks.BLOCK_BYTES

Kernel = Callable[[slice, Factor, Array], Array]


@dataclass(frozen=True)
class Fitted:
    """P Gaussians of C features each."""

    grid: tuple[int, ...] | None  #: the shape of the grid; None for any of P patches
    dtype: np.dtype[Any]  #: of results, and of what is kept beside the moments
    mean: Array  #: (P, C)
    regularisation: Regularisation = field(default_factory=Regularisation)
    n_samples: int = 0
    sum_weights: float = 0.0
    sum_squared_weights: float = 0.0
    resolution: float = 0.0  #: the machine epsilon of the samples' dtype, where coarser than double
    scatter: Scatter | None = None  #: None for parameters alone
    third: Array | None = None  #: (P, C), see `Sample`
    fourth: Array | None = None  #: (P,)
    factor: Factor | None = None  #: computed when first needed
    loo_distances: Array | None = None  #: (P, n), sorted leave-one-out distances, if it was calibrated
    loo_largest: Array | None = None  #: (n,), sorted, the largest of each image
    limit: float | None = None  #: of the largest distance of an image, if one was set
    default_limit: float | None = None  #: the limit if none was set, computed when first needed
    feature_names: Array | None = None  #: (C,), of the columns, where data frames were fitted
    _lock: Lock = field(default_factory=Lock, init=False, repr=False, compare=False)

    @property
    def n_patches(self) -> int:
        """P."""
        return len(self.mean)

    @property
    def n_features(self) -> int:
        """C."""
        return int(self.mean.shape[1])

    def require_moments(self) -> None:
        """Refuse to go on from a model that has parameters only."""
        self.moments  # noqa: B018

    @property
    def moments(self) -> Scatter:
        """The scatter, which has to be there."""
        if self.scatter is None:
            raise ValueError(
                "this model cannot be fitted further: expected its moments, got none; it was made from "
                "parameters, or saved with resumable=False"
            )
        return self.scatter

    @property
    def arrays(self) -> dict[str, Array]:
        """All arrays that are kept, by name."""
        names = ("mean", "third", "fourth", "loo_distances", "loo_largest")
        found = {name: a for name in names if (a := getattr(self, name)) is not None}
        for part in (self.factor, self.scatter):
            found |= part.arrays() if part else {}
        if "samples" in found:
            found.pop("rows", None)  # the same
        return found

    def with_arrays(self, arrays: dict[str, Array], grid: tuple[int, ...]) -> Self:
        """Return the same model of other patches: its moments or its Gaussians, of arrays of these names."""
        return replace(
            self,
            grid=grid,
            mean=arrays["mean"],
            scatter=Scatter.of_arrays(arrays, self.n_features) if self.scatter else None,
            third=arrays.get("third"),
            fourth=arrays.get("fourth"),
            factor=of_arrays(arrays),
            loo_distances=arrays.get("loo_distances"),
        )

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays that are kept."""
        return sum(a.nbytes for a in self.arrays.values())

    @property
    def weighted(self) -> bool:
        """Whether a sample has another weight than 1."""
        n = self.n_samples
        return self.sum_squared_weights - 2 * self.sum_weights + n > 1e-9 * n

    def sample(self, b: slice) -> Sample:
        """Return the moments of a block."""
        third, fourth = (None if a is None else a[b] for a in (self.third, self.fourth))
        return Sample(self.sum_weights, self.mean[b], self.moments[b], third, fourth)

    def noise(self, sample: Sample) -> Array | None:
        r"""Return the variance that rounding may have put into each feature of a block, ``(B, C)``.

        A feature of root mean square m, rounded to a dtype of machine epsilon :math:`\epsilon`, has errors
        of a variance of at most :math:`\epsilon^2 m^2 / 12`, and n samples of C such features one of at
        most about :math:`(1 + \sqrt{C / n})^2` times as much in some direction.
        """
        if not self.resolution:
            return None
        mean_square = sample.mean**2 + sample.scatter.diagonal / sample.weight
        return np.asarray(self.resolution**2 * mean_square * (1 + self.n_features / self.n_samples))

    def factored(self, sample: Sample) -> Factor:
        """Return the factors of a block."""
        scale, ridge, rho = _shrinkage.estimate(sample, self.regularisation)
        _arguments.representable(np.sqrt(scale * sample.scatter.trace + ridge), self.dtype)
        regularised = self.regularisation.any
        noise = None if regularised and sample.scatter.few else self.noise(sample)
        return sample.scatter.factor(scale, ridge, rho, noise, regularised)

    def factors(self, walk: Walk = FREELY) -> Factor:
        """Return the factors of all patches, from the first call on the same ones."""
        if self.factor is None:
            with self._lock.free():
                if self.factor is None:
                    self.raise_if_too_few()
                    if self.loo_distances is None:  # which show what few samples do
                        warn_if_few(self.n_samples, self.n_features, self.regularisation.shrinkage)
                    made = self.moments.empty_factor(self.regularisation.any, self.dtype)
                    self.per_patch(lambda b: self.factored(self.sample(b)), made, walk)
                    object.__setattr__(self, "factor", made)
        assert self.factor is not None
        return self.factor

    def raise_if_too_few(self) -> None:
        """Refuse to make a covariance of too few samples."""
        w, ddof = self.sum_weights, self.regularisation.ddof
        if not w or w <= ddof:
            got = f"{self.n_samples} sample{'s'[: self.n_samples != 1]}"
            if self.weighted:
                _arguments.raise_error(
                    "sample_weight",
                    f"weights that add up to more than ddof = {ddof:g}",
                    f"{w:.3g} of {got}",
                    hint="a weight counts how often a sample is there; multiply them all by "
                    "len(w) / w.sum() to weigh samples against each other",
                )
            _arguments.raise_error(
                "embedding", f"more samples than ddof = {ddof:g} to estimate a covariance", got
            )

    def regularised(self, how: Regularisation) -> Self:
        """Return the same moments under another regularisation."""
        if how == self.regularisation:
            return self
        if how.needs_fourth and self.fourth is None:
            _arguments.raise_error(
                "shrinkage",
                "one that can be estimated from the moments of this model",
                f"{how.shrinkage!r}, for which it must be set before the first fit",
            )
        made: dict[str, Any] = dict.fromkeys(
            ("factor", "loo_distances", "loo_largest", "limit", "default_limit")
        )
        third, fourth = (self.third, self.fourth) if how.needs_fourth else (None, None)
        return replace(self, regularisation=how, third=third, fourth=fourth, **made)

    def without_moments(self, walk: Walk = FREELY) -> Self:
        """Return the same Gaussians as parameters only."""
        factor = self.factors(walk)
        if isinstance(factor, Thin):
            thin, shape = factor, (self.n_patches, factor.small.shape[1], self.n_features)
            rows = self.per_patch(lambda b: thin[b].centred, np.empty(shape, self.dtype), walk)
            factor = replace(thin, rows=rows, shift=None)
        return replace(self, factor=factor, scatter=None, third=None, fourth=None)

    def per_patch(self, kernel: Callable[[slice], T], out: T, walk: Walk = FREELY) -> T:
        """Write what a kernel makes of each block of patches."""

        def task(b: slice) -> None:
            out[b] = kernel(b)

        self.walk(task, self.item_bytes, walk)
        return out

    def covariance(self, walk: Walk = FREELY) -> Array:
        """Return the regularised covariances, ``(P, C, C)``."""
        factor = self.factors(walk)
        c = self.n_features

        def kernel(b: slice) -> Array:
            if self.scatter is None:
                return factor[b].covariance()
            sample = self.sample(b)
            scale, ridge, _ = _shrinkage.estimate(sample, self.regularisation)
            return sample.scatter.square() * scale[:, None, None] + ridge[:, None, None] * np.eye(c)

        return self._matrices(kernel, walk)

    def inv_covariance(self, walk: Walk = FREELY) -> Array:
        """Return the inverse covariances, ``(P, C, C)``."""
        factor = self.factors(walk)
        return self._matrices(lambda b: factor[b].inverse(), walk)

    def _matrices(self, kernel: Callable[[slice], Array], walk: Walk) -> Array:
        def held(b: slice) -> Array:
            matrices = kernel(b)
            _arguments.representable(np.diagonal(matrices, axis1=1, axis2=2).max(axis=1), self.dtype)
            return matrices

        return self.per_patch(held, np.empty((*self.mean.shape, self.n_features), self.dtype), walk)

    def score(self, x: Array, out: Array, kernel: Kernel, walk: Walk = FREELY) -> None:
        """Apply a kernel to the deviations of samples ``(*grid, M, C)`` from the means.

        The kernel takes the slice of patches, their factors and deviations ``(B, M, C)``, and `out` has
        the shape ``(*grid, M, ...)``. Factors that were not made are made block by block and given up.
        """
        *grid, m, c = x.shape
        factor = self.factor
        blocks, answers = _blocks.flat(x, 2, tuple(grid)), _blocks.flat_output(out, len(grid))
        whole = None
        if x.size * 8 <= _blocks.BLOCK_BYTES:  # beside busy threads each step of a block has to wait
            with np.errstate(all="ignore"):
                whole = deviations(blocks[0 : self.n_patches], self.mean)

        def task(b: slice) -> None:
            block, mean = blocks[b], self.mean[b]
            with np.errstate(all="ignore"):
                f = self.factored(self.sample(b)) if factor is None else factor[b]
                for run in _blocks.slices(m, 2 * len(block) * c * 8):
                    z = deviations(block[:, run], mean) if whole is None else whole[b, run]
                    answer = kernel(b, f, z).astype(self.dtype, copy=False)
                    # a log density may be -inf
                    if not (np.isfinite(answer) | np.isneginf(answer)).all():
                        raise OutOfRangeError
                    answers[b, run] = answer

        n = c if factor is None else factor.n_rows
        size = (2 * m + n) * c * 8
        if walk.n_jobs is None and whole is not None and self.n_patches * size <= _LITTLE:
            walk = walk._replace(n_jobs=1)
        # of few rows each step is short: threads that take one patch at a time wait for each other
        self.walk(task, size, walk, max(least_patches(n, c), 1 if n == c else 2))

    @property
    def distribution(self) -> Distribution:
        """Which distribution p-values follow; see `_distributions`."""
        how, n = self.regularisation, self.n_samples
        if not how.reg_covar and how.shrinkage is None and not self.weighted and n > self.n_features:
            return "hotelling"
        return "chi2" if self.loo_distances is None else "leave-one-out"

    @property
    def _law(self) -> tuple[float, float]:
        """The n of the law, and the factor from squared distances to those of divisor n - 1."""
        if self.distribution != "hotelling":
            return math.inf, 1.0
        return self.n_samples, (self.n_samples - 1) / (self.n_samples - self.regularisation.ddof)

    def sf(self, squared: Array, rank: Array) -> Array:
        """Return the probabilities of larger squared distances, by the exact or the asymptotic law."""
        n, factor = self._law
        return _distributions.sf(squared * factor, n, rank)

    def isf(self, probability: Array | float, rank: Array) -> Array:
        """Return the squared distances that are exceeded with these probabilities, by the same law."""
        n, factor = self._law
        return _distributions.isf(probability, n, rank) / factor

    @property
    def item_bytes(self) -> int:
        """What algebra on the matrix of one patch works on."""
        return self.n_features**2 * 8

    def walk(self, task: Callable[[slice], None], item_bytes: int, walk: Walk, least: int = 1) -> None:
        """Call a task for each block of patches."""
        parts = _blocks.slices(self.n_patches, item_bytes, least=least, shares=_blocks.SHARES)
        _blocks.walk(task, parts, n_jobs=walk.n_jobs, progress=walk.progress)
