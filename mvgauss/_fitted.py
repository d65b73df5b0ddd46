"""What a fitted model keeps: the moments of a grid of patches, and the factor made from them.

Nothing in here changes but that the factor, once computed, is kept.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from mvgauss import _blocks, _moments, _shrinkage, _whitening
from mvgauss._checks import Array
from mvgauss._whitening import Whitening

#: One factorisation at a time is enough, and each is done once, whoever asks first.
_factoring = threading.Lock()


@dataclass
class Fitted:
    """P Gaussians of C features each."""

    grid: tuple[int, ...] | None  #: the shape of the grid; None for any of P patches
    dtype: np.dtype[Any]  #: of results and of the factor
    mean: Array  #: (P, C), in the dtype of the computation
    n_samples: int = 0
    sum_weights: float = 0.0
    sum_squared_weights: float = 0.0
    scatter: Array | None = None  #: (P, C(C+1)/2), lower triangles; None without samples
    ddof: float = 1.0
    reg_covar: float = 0.0
    whitening: Whitening | None = None  #: made when first needed

    @property
    def n_patches(self) -> int:
        """Return P."""
        return len(self.mean)

    @property
    def n_features(self) -> int:
        """Return C."""
        return int(self.mean.shape[1])

    @property
    def item_bytes(self) -> int:
        """Return what algebra on the matrices of one patch works on."""
        return 4 * self.n_features**2 * 8

    @classmethod
    def identity(cls, n_features: int, n_patches: int, dtype: np.dtype[Any]) -> Self:
        """Return Gaussians of mean zero and identity covariance."""
        eye = np.broadcast_to(np.eye(n_features, dtype=dtype), (n_patches, n_features, n_features))
        whitening = Whitening(eye, np.full(n_patches, n_features), np.zeros(n_patches))
        return cls(None, dtype, np.zeros((n_patches, n_features)), whitening=whitening)

    @classmethod
    def from_inverse(cls, mean: Array, inverse: Array, dtype: np.dtype[Any]) -> Self:
        """Return Gaussians of given means ``(P, C)`` and inverse covariances ``(P, C, C)``."""
        p, c = mean.shape
        w = Whitening(np.empty((p, c, c), dtype), np.empty(p, np.intp), np.empty(p))
        _blocks.over_stack(
            lambda block: _whitening.of_inverse(block, inverse.dtype),
            (p,),
            [(inverse, 2)],
            w,
            item_bytes=4 * c * c * 8,
        )
        return cls(None, dtype, mean.astype(np.float64), whitening=w)

    def estimate(self, triangle: Array) -> Array:
        """Return the regularised covariances of a block of packed scatters."""
        divisor = self.sum_weights - self.ddof * self.sum_squared_weights / self.sum_weights
        s = _moments.unpack(triangle, self.n_features)
        s /= divisor
        return _shrinkage.regularised(s, self.reg_covar)

    def whitened(self, n_jobs: int | None = None, progress: str | None = None) -> Whitening:
        """Return the factors of all patches, from the first call on the same ones."""
        with _factoring:
            if self.whitening is None:
                p, c = self.mean.shape
                w = Whitening(np.empty((p, c, c), self.dtype), np.empty(p, np.intp), np.empty(p))
                scatter = self._scatter()
                eps = float(np.finfo(scatter.dtype).eps)
                _blocks.over_stack(
                    lambda block: _whitening.whiten(self.estimate(block), np.asarray(c * eps), eps),
                    (p,),
                    [(scatter, 1)],
                    w,
                    item_bytes=self.item_bytes,
                    n_jobs=n_jobs,
                    progress=progress,
                )
                self.whitening = w
            return self.whitening

    def covariance(self, n_jobs: int | None = None) -> Array:
        """Return the regularised covariances, ``(P, C, C)``."""
        if self.scatter is None:
            return _whitening.pinv(self.inv_covariance(n_jobs))
        return self._per_patch(self.estimate, self._scatter(), 1, n_jobs)

    def inv_covariance(self, n_jobs: int | None = None) -> Array:
        """Return the inverse covariances, ``(P, C, C)``: the self-products of the factors."""
        return self._per_patch(
            lambda w: _whitening.self_product(w.astype(np.float64)), self.whitened(n_jobs).factor, 2, n_jobs
        )

    def _per_patch(self, kernel: Any, operand: Array, core: int, n_jobs: int | None) -> Array:
        """Apply a kernel that gives one matrix for each patch."""
        p, c = self.mean.shape
        result = np.empty((p, c, c), self.dtype)
        _blocks.over_stack(
            lambda block: (kernel(block),),
            (p,),
            [(operand, core)],
            [result],
            item_bytes=self.item_bytes,
            n_jobs=n_jobs,
        )
        return result

    def _scatter(self) -> Array:
        """Return the packed scatters; asked for only where there are some."""
        assert self.scatter is not None
        return self.scatter
