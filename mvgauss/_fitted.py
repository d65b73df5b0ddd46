"""What a fitted model keeps: the moments of a grid of patches, and the factors made from them.

A `Fitted` never changes, but that its factors, once made, are kept. New data make a new one.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Self

import numpy as np

from mvgauss import _blocks, _checks, _moments, _scores, _shrinkage, _triangles, _whitening
from mvgauss._blocks import scratch
from mvgauss._checks import Array
from mvgauss._moments import Moments
from mvgauss._scores import Law
from mvgauss._shrinkage import Regularisation

#: One model makes its factors at a time, and once, whoever asks first.
_factoring = threading.Lock()


class NotFiniteError(ArithmeticError):
    """A block has a NaN or an infinity, or numbers too large to square."""


def refuse_not_finite(a: Array) -> None:
    """Stop the walk where a block's numbers are not finite."""
    if not np.isfinite(a).all():
        raise NotFiniteError


class Walk(NamedTuple):
    """How blocks are walked: `n_jobs` and the text of a progress bar, see `_blocks`."""

    n_jobs: int | None = None
    progress: str | None = None


FREELY = Walk()


def least_patches(matrix_bytes: int) -> int:
    """Return the fewest patches in a block: neighbours share cache lines of a channel-first embedding.

    But matrices too large for some dozens of them cost so much more that this does not matter.
    """
    return max(1, min(32, 2 * _blocks.BLOCK_BYTES // matrix_bytes))


class Factors(NamedTuple):
    """The stacked factors of P patches."""

    factor: Array  #: (P, C, C)
    rank: Array  #: (P,)
    log_pdet: Array  #: (P,)
    shrinkage: Array  #: (P,), the intensities that were used

    @classmethod
    def empty(cls, p: int, c: int, dtype: np.dtype[Any]) -> Factors:
        """Return room for the factors of P patches."""
        return cls(np.empty((p, c, c), dtype), np.empty(p, np.intp), np.empty(p), np.empty(p))


@dataclass(frozen=True)
class Fitted:
    """P Gaussians of C features each."""

    grid: tuple[int, ...] | None  #: the shape of the grid; None for any of P patches
    dtype: np.dtype[Any]  #: of results and of the factors
    mean: Array  #: (P, C), in the dtype of the computation
    how: Regularisation = field(default_factory=Regularisation)
    n_samples: int = 0
    sum_weights: float = 0.0
    sum_squared_weights: float = 0.0
    weighted: bool = False
    scatter: Array | None = None  #: (P, C(C+1)/2), lower triangles; None where the moments are gone
    third: Array | None = None  #: (P, C), see `Moments`
    fourth: Array | None = None  #: (P,)
    factors: Factors | None = None  #: made when first needed
    good: Array | None = None  #: (P, n), sorted leave-one-out distances, if the model was calibrated
    limit: float | None = None  #: of the largest distance of an image, if one was set

    @property
    def n_patches(self) -> int:
        """Return P."""
        return len(self.mean)

    @property
    def n_features(self) -> int:
        """Return C."""
        return int(self.mean.shape[1])

    @property
    def working(self) -> np.dtype[Any]:
        """Return the dtype of the computation."""
        return self.mean.dtype

    @property
    def nbytes(self) -> int:
        """Return the bytes of all arrays that are kept."""
        arrays = (self.mean, self.scatter, self.third, self.fourth, self.good, *(self.factors or ()))
        return sum(a.nbytes for a in arrays if a is not None)

    @classmethod
    def identity(cls, n_features: int, n_patches: int, dtype: np.dtype[Any]) -> Self:
        """Return Gaussians of mean zero and identity covariance."""
        eye = np.broadcast_to(np.eye(n_features, dtype=dtype), (n_patches, n_features, n_features))
        p = n_patches
        factors = Factors(eye, np.full(p, n_features), np.zeros(p), np.zeros(p))
        return cls(None, dtype, np.zeros((n_patches, n_features)), factors=factors)

    @classmethod
    def from_inverse(cls, mean: Array, inverse: Array, dtype: np.dtype[Any]) -> Self:
        """Return Gaussians of given means ``(P, C)`` and inverse covariances ``(P, C, C)``."""
        p, c = mean.shape
        factors = Factors.empty(p, c, dtype)
        factors.shrinkage[:] = 0
        _blocks.over_stack(
            lambda block: _whitening.of_inverse(block, inverse.dtype),
            (p,),
            [(inverse, 2)],
            factors[:3],
            item_bytes=c * c * 8,
        )
        return cls(None, dtype, mean.astype(np.float64), factors=factors)

    @classmethod
    def of_samples(
        cls,
        x: Array,
        weights: Array | None,
        *,
        working: np.dtype[Any],
        dtype: np.dtype[Any],
        how: Regularisation,
        base: Fitted | None = None,
        factors: bool = False,
        walk: Walk = FREELY,
    ) -> Self:
        """Return the model of samples ``(*grid, N, C)``, with those of `base`.

        In one walk: moments, merged with those of `base`, and, if asked for, the factors.
        """
        *grid, n, c = x.shape
        p = math.prod(grid)
        total, squared = float(n), float(n)
        if weights is not None:
            total, squared = float(weights.sum()), float((weights * weights).sum())
        fourth = how.needs_fourth
        triangles = np.empty((p, c * (c + 1) // 2), working)
        new = cls(
            grid=tuple(grid),
            dtype=dtype,
            mean=np.empty((p, c), working),
            how=how,
            n_samples=n + (base.n_samples if base else 0),
            sum_weights=total + (base.sum_weights if base else 0),
            sum_squared_weights=squared + (base.sum_squared_weights if base else 0),
            weighted=weights is not None or (base is not None and base.weighted),
            scatter=triangles,
            third=np.empty((p, c), working) if fourth else None,
            fourth=np.empty(p, working) if fourth else None,
            factors=Factors.empty(p, c, dtype) if factors else None,
        )
        if factors:
            new.refuse_unsolvable()
        given = [] if weights is None else [weights, weights * weights]

        def kernel(x: Array, *rest: Array) -> tuple[Array, ...]:
            w, old = rest[: len(given)], rest[len(given) : -1]
            with np.errstate(all="ignore"):
                scatter = scratch("scatter", (len(x), c, c), working)
                m = _moments.of_block(x, *w, out=scatter, fourth=fourth)
                if base is not None:
                    m = base.moments(*old)._absorb(m)
            refuse_not_finite(np.diagonal(m.scatter, axis1=1, axis2=2))
            return new._answers(m, rest[-1])

        _blocks.over_stack(
            kernel,
            tuple(grid),
            [
                (x, 2),
                *((w, 1) for w in given),
                *((on_grid(grid, a), a.ndim - 1) for a in (base.kept() if base else ())),
            ],
            [on_grid(grid, a) for a in new._answered()],
            into=[on_grid(grid, triangles)],
            item_bytes=max(n, c) * c * working.itemsize,
            least=least_patches(c * c * working.itemsize),
            n_jobs=walk.n_jobs,
            progress=walk.progress,
        )
        return new

    def merged(self, other: Fitted, walk: Walk = FREELY) -> Self:
        """Return the model of both samples."""
        triangles = np.empty_like(self.scatter)
        new = replace(
            self,
            mean=np.empty_like(self.mean),
            n_samples=self.n_samples + other.n_samples,
            sum_weights=self.sum_weights + other.sum_weights,
            sum_squared_weights=self.sum_squared_weights + other.sum_squared_weights,
            weighted=self.weighted or other.weighted,
            scatter=triangles,
            third=None if self.third is None else np.empty_like(self.third),
            fourth=None if self.fourth is None else np.empty_like(self.fourth),
            factors=None,
            good=None,
            limit=None,
        )
        kept = self.kept()

        def kernel(*blocks: Array) -> tuple[Array, ...]:
            mine, theirs = blocks[: len(kept)], blocks[len(kept) : -1]
            # the scratch memory of the one is done with before the other is unpacked
            m = self.moments(*mine)
            m.scatter = m.scatter.copy()
            with np.errstate(all="ignore"):
                m._absorb(other.moments(*theirs))
            refuse_not_finite(np.diagonal(m.scatter, axis1=1, axis2=2))
            return new._answers(m, blocks[-1])

        _blocks.over_stack(
            kernel,
            (self.n_patches,),
            [(a, a.ndim - 1) for a in (*kept, *other.kept())],
            new._answered(),
            into=[triangles],
            item_bytes=self._item_bytes,
            n_jobs=walk.n_jobs,
            progress=walk.progress,
        )
        return new

    def moments(self, mean: Array, scatter: Array, *fourth: Array) -> Moments:
        """Return the moments of a block of what is kept."""
        ones = np.ones(len(mean))
        c = mean.shape[1]
        m = Moments._of_parts(
            self.n_samples,
            self.sum_weights * ones,
            self.sum_squared_weights * ones,
            mean,
            _triangles.unpack(scatter, c),
        )
        if fourth:
            m.third, m.fourth = fourth
        return m

    def made(self, walk: Walk = FREELY) -> Factors:
        """Return the factors of all patches, from the first call on the same ones."""
        with _factoring:
            if self.factors is None:
                self.refuse_unsolvable()
                factors = Factors.empty(self.n_patches, self.n_features, self.dtype)
                self._per_patch(lambda *kept: self._factored(self.moments(*kept)), factors, walk)
                object.__setattr__(self, "factors", factors)
            assert self.factors is not None
            return self.factors

    def refuse_unsolvable(self) -> None:
        """Refuse to make a covariance of too few samples, or a shrinkage that weights forbid."""
        w, v = self.sum_weights, self.sum_squared_weights
        if not w or w - self.how.ddof * v / w <= 0:
            worth = f", worth {w * w / v:.3g} after sample_weight" if self.weighted and v else ""
            _checks.refuse(
                "embedding",
                f"more samples than ddof = {self.how.ddof:g} to estimate a covariance",
                f"{self.n_samples} sample{'s'[: self.n_samples != 1]}{worth}",
            )
        if self.how.shrinkage is not None and self.weighted:
            _shrinkage.refuse_weights(self.how)

    def refuse_without_moments(self) -> None:
        """Refuse to go on from a model that has parameters only."""
        if self.scatter is None:
            raise ValueError(
                "this model cannot go on fitting: expected its moments, got none; it was made from "
                "parameters, or saved with resumable=False"
            )

    def regularised(self, how: Regularisation) -> Self:
        """Return the same moments under another regularisation."""
        if how == self.how:
            return self
        if how.shrinkage is not None and self.weighted:
            _shrinkage.refuse_weights(how)
        if how.needs_fourth and self.fourth is None:
            _checks.refuse(
                "shrinkage",
                "one that can be estimated from the moments of this model",
                f"{how.shrinkage!r}, for which it must be set before the first fit",
            )
        if how.needs_fourth:
            return replace(self, how=how, factors=None, good=None, limit=None)
        return replace(self, how=how, third=None, fourth=None, factors=None, good=None, limit=None)

    def without_moments(self, walk: Walk = FREELY) -> Self:
        """Return the same Gaussians as parameters only."""
        return replace(self, factors=self.made(walk), scatter=None, third=None, fourth=None)

    def state(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """Return what makes this model again: plain values, and arrays."""
        values = {
            "grid": self.grid,
            "dtype": self.dtype.name,
            "how": self.how,
            "n_samples": self.n_samples,
            "sum_weights": self.sum_weights,
            "sum_squared_weights": self.sum_squared_weights,
            "weighted": self.weighted,
            "limit": self.limit,
        }
        names = ("mean", "scatter", "third", "fourth", "good")
        arrays: dict[str, Array | None] = {name: getattr(self, name) for name in names}
        arrays |= {} if self.factors is None else self.factors._asdict()
        return values, {name: a for name, a in arrays.items() if a is not None}

    @classmethod
    def from_state(cls, values: dict[str, Any], arrays: dict[str, Array]) -> Self:
        """Return the model that `state` describes; refuse what does not fit together."""
        grid = values["grid"]
        dtype = np.dtype(values["dtype"])
        self = cls(
            grid=None if grid is None else tuple(_checks.integer("grid", n, low=1) for n in grid),
            dtype=dtype,
            mean=arrays["mean"],
            how=Regularisation.checked(*values["how"]),
            n_samples=_checks.integer("n_samples", values["n_samples"], low=0),
            sum_weights=_checks.number("sum_weights", values["sum_weights"], low=0),
            sum_squared_weights=_checks.number("sum_squared_weights", values["sum_squared_weights"], low=0),
            weighted=_checks.flag("weighted", values["weighted"]),
            scatter=arrays.get("scatter"),
            third=arrays.get("third"),
            fourth=arrays.get("fourth"),
            good=arrays.get("good"),
            limit=None if values["limit"] is None else _checks.number("limit", values["limit"], low=0),
            factors=Factors(*(arrays[name] for name in Factors._fields)) if "factor" in arrays else None,
        )
        if self.mean.ndim != 2:
            _checks.refuse("mean", "shape (P, C)", f"{self.mean.shape}")
        (p, c), working = self.mean.shape, self.working
        for name, kind in (("mean", working), ("dtype", dtype)):
            if kind not in (np.float32, np.float64):
                _checks.refuse(name, "float32 or float64", f"{kind}")
        n_good = self.good.shape[-1] if self.good is not None and self.good.ndim else 0
        real = np.dtype(np.float64)
        for name, shape, kind in (
            ("scatter", (p, c * (c + 1) // 2), working),
            ("third", (p, c), working),
            ("fourth", (p,), working),
            ("factor", (p, c, c), dtype),
            ("rank", (p,), np.dtype(np.intp)),
            ("log_pdet", (p,), real),
            ("shrinkage", (p,), real),
            ("good", (p, n_good), dtype),
        ):
            a = arrays.get(name)
            if a is not None and (a.shape != shape or a.dtype != kind):
                _checks.refuse(name, f"{kind} of shape {shape}", f"{a.dtype} of shape {a.shape}")
        for name, a in arrays.items():
            _checks.finite(name, a)
        if self.grid is not None and math.prod(self.grid) != p:
            _checks.refuse("grid", f"{p} patches", f"{self.grid}")
        if self.scatter is None and self.factors is None:
            _checks.refuse("file", "moments or factors", "neither")
        return self

    def covariance(self, walk: Walk = FREELY) -> Array:
        """Return the regularised covariances, ``(P, C, C)``."""
        p, c = self.mean.shape
        result = np.empty((p, c, c), self.dtype)
        if self.scatter is None:
            self._per_factor(_whitening.covariance_of, result, walk)
            return result
        self.refuse_unsolvable()
        self._per_patch(lambda *kept: _shrinkage.estimate(self.moments(*kept), self.how)[:1], [result], walk)
        return result

    def inv_covariance(self, walk: Walk = FREELY) -> Array:
        """Return the inverse covariances, ``(P, C, C)``: the self-products of the factors."""
        p, c = self.mean.shape
        result = np.empty((p, c, c), self.dtype)
        self._per_factor(_whitening.self_product, result, walk)
        return result

    def _per_factor(self, kernel: Callable[[Array], Array], out: Array, walk: Walk) -> None:
        """Write one matrix for each patch, which a kernel makes of its factor in double precision."""
        _blocks.over_stack(
            lambda w: (kernel(w.astype(np.float64)),),
            (self.n_patches,),
            [(self.made(walk).factor, 2)],
            [out],
            item_bytes=self.n_features**2 * 8,
            n_jobs=walk.n_jobs,
        )

    def score(
        self,
        x: Array,
        outputs: list[Array],
        kernel: Callable[..., tuple[Array, ...]],
        operands: Sequence[Array] = (),
        walk: Walk = FREELY,
    ) -> None:
        """Apply a kernel to the deviations of samples ``(*grid, M, C)`` from the means.

        The kernel takes deviations ``(B, M, C)``, factors ``(B, C, C)`` and a block of each operand,
        ``(P, ...)``. The outputs have shape ``(*grid, M, ...)``.
        """
        *grid, m, c = x.shape

        def task(x: Array, mean: Array, factor: Array, *operands: Array) -> tuple[Array, ...]:
            near = mean.astype(self.dtype)
            # what the mean loses in the dtype of the result, which large offsets would make felt
            rest = (mean - near).astype(self.dtype)

            def of_run(run: slice) -> tuple[Array, ...]:
                return kernel(_whitening.deviations(x[:, run], near, rest), factor, *operands)

            with np.errstate(all="ignore"):
                answers = _blocks.over_rows(of_run, m, 2 * len(x) * c * self.dtype.itemsize)
            for a in answers:  # a log density may be -inf
                refuse_not_finite(np.where(np.isneginf(a), 0, a))
            return answers

        _blocks.over_stack(
            task,
            tuple(grid),
            [
                (x, 2),
                *((on_grid(grid, a), a.ndim - 1) for a in (self.mean, self.made(walk).factor, *operands)),
            ],
            outputs,
            item_bytes=(2 * m + c) * c * self.dtype.itemsize,
            least=least_patches(c * c * self.working.itemsize),
            n_jobs=walk.n_jobs,
            progress=walk.progress,
        )

    @property
    def law(self) -> Law:
        """Return which law p-values follow; see `_scores`."""
        how, n = self.how, self.n_samples
        if not how.reg_covar and how.shrinkage is None and not self.unequal and n > self.n_features:
            return "hotelling"
        return "chi2" if self.good is None else "leave-one-out"

    @property
    def unequal(self) -> bool:
        """Return whether the samples have unequal weights."""
        w = self.sum_weights
        return self.n_samples * self.sum_squared_weights > w * w * (1 + 1e-9)

    @property
    def to_unbiased(self) -> float:
        """Return the factor from squared distances to those of the covariance with divisor n - 1."""
        return (self.n_samples - 1) / (self.n_samples - self.how.ddof)

    def p_values(self, squared: Array, rank: Array, *good: Array) -> Array:
        """Return the p-values of squared distances ``(B, M)``, by the model's law."""
        if self.law == "hotelling":
            return _scores.hotelling_sf(squared * self.to_unbiased, self.n_samples, rank[:, None])
        if self.law == "chi2":
            return _scores.chi2_sf(squared, rank[:, None])
        return _scores.rank_among(np.sqrt(squared), *good)

    def limit_of_law(self, rate: float) -> float:
        """Return the distance that some patch of a good image reaches with at most this probability."""
        rank = self.made().rank.max()
        if self.law == "hotelling":
            squared = _scores.hotelling_isf(rate / self.n_patches, self.n_samples, rank) / self.to_unbiased
        else:
            squared = _scores.chi2_isf(rate / self.n_patches, rank)
        return math.sqrt(squared)

    def condition(self, walk: Walk = FREELY) -> Array:
        """Return the condition numbers of the regularised covariances, ``(P,)``; inf if singular."""
        result = np.empty(self.n_patches)
        rank = self.made(walk).rank

        def kernel(w: Array, rank: Array) -> tuple[Array]:
            values = np.linalg.svd(w.astype(np.float64), compute_uv=False)
            full = rank == w.shape[-1]
            low = np.where(full, values[:, -1], 1)
            return (np.where(full, (values[:, 0] / low) ** 2, np.inf),)

        _blocks.over_stack(
            kernel,
            (self.n_patches,),
            [(self.made(walk).factor, 2), (rank, 0)],
            [result],
            item_bytes=self._item_bytes,
            n_jobs=walk.n_jobs,
        )
        return result

    @property
    def _item_bytes(self) -> int:
        """Return what algebra on the matrix of one patch works on."""
        return self.n_features**2 * self.mean.itemsize

    def kept(self) -> list[Array]:
        """Return the arrays of the moments, patches first."""
        return [a for a in (self.mean, self.scatter, self.third, self.fourth) if a is not None]

    def _answered(self) -> list[Array]:
        """Return what `_answers` are for."""
        moments = [a for a in (self.mean, self.third, self.fourth) if a is not None]
        return [*moments, *(self.factors or ())]

    def _answers(self, m: Moments, triangle: Array) -> tuple[Array, ...]:
        """Write the scatter of a block's moments; return the others, and factors if they are asked for."""
        _triangles.pack(m.scatter, triangle)
        moments = [a for a in (m.mean, m.third, m.fourth) if a is not None]
        return (*moments, *(self._factored(m) if self.factors else ()))

    def _factored(self, m: Moments) -> Factors:
        """Return the factors of a block."""
        eps = float(np.finfo(m.scatter.dtype).eps)
        sigma, rho = _shrinkage.estimate(m, self.how)
        cut = np.asarray(m.mean.shape[1] * eps)
        return Factors(*_whitening.whiten(sigma, cut, eps, self.how.reg_covar), rho)

    def _per_patch(
        self, kernel: Callable[..., tuple[Array, ...]], outputs: list[Array] | Factors, walk: Walk
    ) -> None:
        """Apply a kernel to blocks of the moments."""
        _blocks.over_stack(
            kernel,
            (self.n_patches,),
            [(a, a.ndim - 1) for a in self.kept()],
            outputs,
            item_bytes=self._item_bytes,
            n_jobs=walk.n_jobs,
            progress=walk.progress,
        )


def on_grid(grid: Sequence[int], a: Array) -> Array:
    """View an array with one patch axis as one with the axes of the grid."""
    return a.reshape((*grid, *a.shape[1:]))
