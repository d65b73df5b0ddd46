"""Contributions of single features, and diagnostics of a fitted model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from mvgauss import _checks
from mvgauss._checks import Array
from mvgauss._factor import Factor
from mvgauss._scoring import Scoring
from mvgauss._shrinkage import Regularisation


class Diagnostics(Scoring):
    """Contributions and diagnostics of a model of patches."""

    def contributions(self, embedding: ArrayLike) -> Array:
        r"""How much each feature adds to the squared distance of each patch.

        Parameters
        ----------
        embedding : array_like, shape (M, C, *grid)
            Embeddings of M images, on the grid that was fitted.

        Returns
        -------
        ndarray, shape (M, C, *grid)
            In the layout of `embedding`. The sum over the features is the squared distance; single
            contributions may be negative.

        Raises
        ------
        ValueError, TypeError
            As `mahalanobis`.

        Notes
        -----
        :math:`c_j = (x - \mu)_j [\hat\Sigma^{-1} (x - \mu)]_j`; see Mason, Tracy & Young,
        "Decomposition of T² for multivariate control chart interpretation", J. Quality Technology
        27(2), 1995, on how to read such parts.
        """
        fitted = self._model()
        x = self._embedding(embedding, fitted)
        result = np.empty(x.shape, fitted.dtype)
        fitted.factors(self._walk("contributions"))
        self._score_into(result, x, fitted, "contributions", lambda _, factor, z: z * factor.solve(z))
        return result

    def diagnostics(self, embedding: ArrayLike | None = None) -> dict[str, Array]:
        r"""Describe the fit of each patch, as maps.

        Parameters
        ----------
        embedding : array_like, shape (N, C, *grid), optional
            The embeddings that the model was fitted on, for what needs more than the moments.

        Returns
        -------
        dict of ndarray, each of the grid's shape
            ``rank``; ``condition`` number of the regularised covariance (inf if singular);
            ``effective_samples``, Kish's :math:`(\sum w)^2 / \sum w^2`; ``shrinkage`` intensity. With
            `embedding` also Mardia's ``kurtosis``, the mean of the fourth powers of the distances
            under the plain covariance with divisor N, and its ``kurtosis_expected`` for a Gaussian,
            r (r + 2) (N - 1) / (N + 1) with the rank r; the standard deviation of their difference is
            about sqrt(8 r (r + 2) / N).

        Raises
        ------
        ValueError
            If the model is not fitted, or `embedding` has other sizes or is not finite.
        """
        fitted = self._model()
        walk = self._walk("diagnostics")
        factor = fitted.factors(walk)
        w, v, p = fitted.sum_weights, fitted.sum_squared_weights, fitted.n_patches
        maps = {
            "rank": factor.rank.copy(),
            "condition": fitted.per_patch(lambda b: factor[b].condition(), np.empty(p), walk),
            "effective_samples": np.full(p, w * w / v if v else 0.0),
            "shrinkage": factor.shrinkage.copy(),
        }
        grid = (p,) if fitted.grid is None else fitted.grid
        result = {name: a.reshape(grid) for name, a in maps.items()}
        if embedding is not None:
            fitted.require_moments()
            x = self._embedding(embedding, fitted)
            if x.n_samples != fitted.n_samples or fitted.weighted:
                wanted = f"the {fitted.n_samples} samples fitted, of equal weight"
                _checks.raise_error("embedding", wanted, f"{x.n_samples}")
            # under the plain covariance with divisor N
            plain = replace(fitted, regularisation=Regularisation(0.0), factor=None, dtype=np.dtype(float))
            squared = np.empty((x.n_samples, *x.grid))
            rank = np.empty(p)

            def kernel(b: slice, factor: Factor, z: Array) -> Array:
                rank[b] = factor.rank
                return factor.squared_norms(z)

            self._score_into(squared, x, plain, "diagnostics", kernel)
            n = fitted.n_samples
            expected = rank * (rank + 2) * (n - 1) / (n + 1)
            result["kurtosis"] = np.square(squared).mean(axis=0)
            result["kurtosis_expected"] = expected.reshape(grid)
        return result
