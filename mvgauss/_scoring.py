"""The scores of images: distances, log densities, p-values, leave-one-out distances."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from mvgauss import _blas, _arguments, _distributions
from mvgauss._arguments import Array
from mvgauss._embedding import Embedding
from mvgauss._factor import Factor
from mvgauss._fitted import Fitted, Kernel
from mvgauss._leave_one_out import loo_distances
from mvgauss._params import Parameters
from mvgauss._walks import OutOfRangeError


class Scoring(Parameters):
    """The scores of a model of patches."""

    def mahalanobis(self, embedding: ArrayLike, squared: bool = False) -> Array:
        """Distance of every patch of new images from its Gaussian.

        Parameters
        ----------
        embedding : array_like, shape (M, C, *grid)
            Embeddings of M images, on the grid that was fitted.
        squared : bool, default False
            Whether to return squared distances instead.

        Returns
        -------
        ndarray, shape (M, *grid)
            Distances in standard deviations, at least 0, in the floating dtype of the model.

        Raises
        ------
        ValueError
            If the model is not fitted, or the embedding is of another shape or not finite.
        TypeError
            If an argument is of the wrong kind.
        """
        squared = _arguments.flag("squared", squared)

        def kernel(_: slice, factor: Factor, z: Array) -> Array:
            d = factor.squared_norms(z)
            return d if squared else np.sqrt(d, out=d)

        return self._score("mahalanobis", embedding, kernel)

    def score_samples(self, embedding: ArrayLike) -> Array:
        r"""Log density of every patch of new images.

        Parameters
        ----------
        embedding : array_like, shape (M, C, *grid)
            Embeddings of M images, on the grid that was fitted.

        Returns
        -------
        ndarray, shape (M, *grid)
            Natural logarithms of densities; they may be positive. Where a covariance is singular, the
            density on its support, and -inf off it.

        Raises
        ------
        ValueError, TypeError
            As `mahalanobis`.

        Notes
        -----
        :math:`-\tfrac12 (r \log 2\pi + \log\operatorname{pdet} \hat\Sigma + d^2)` with the rank r, as
        ``scipy.stats.multivariate_normal(allow_singular=True)``. A patch is off the support when the
        part of :math:`x - \mu` outside is longer than :math:`\sqrt{C \epsilon}` times the larger of
        :math:`\lVert x - \mu \rVert` and the largest standard deviation, with :math:`\epsilon` of the
        dtype of the model.
        """

        def kernel(_: slice, factor: Factor, z: Array) -> Array:
            d = factor.squared_norms(z)
            result = _distributions.log_density(d, factor.rank[:, None], factor.log_pdet[:, None])
            return np.where(factor.off_support(z), -np.inf, result)

        return self._score("score_samples", embedding, kernel)

    def score(self, embedding: ArrayLike, y: object = None) -> float:
        """Mean log density of the patches of new images, for scikit-learn's searches.

        Parameters
        ----------
        embedding : array_like, shape (M, C, *grid)
            Embeddings of M images, on the grid that was fitted.
        y : object, optional
            Ignored; there for scikit-learn.

        Returns
        -------
        float
            The mean of `score_samples`; larger is better.

        Raises
        ------
        ValueError, TypeError
            As `score_samples`.
        """
        return float(self.score_samples(embedding).mean(dtype=np.float64))

    def p_value(self, embedding: ArrayLike) -> Array:
        r"""Probability of a distance at least as large, for a patch of a new good image.

        Parameters
        ----------
        embedding : array_like, shape (M, C, *grid)
            Embeddings of M images that were not fitted, on the grid that was.

        Returns
        -------
        ndarray, shape (M, *grid)
            Between 0 and 1; `p_value_law` names their distribution.

        Raises
        ------
        ValueError, TypeError
            As `mahalanobis`.

        Notes
        -----
        ``"hotelling"``
            :math:`d^2 \sim \frac{p (n+1)(n-1)}{n (n-p)} F(p, n-p)`, exact under the model: for
            n samples of equal weight, more than features, without ridge and shrinkage. p is the rank.
        ``"leave-one-out"``
            :math:`(1 + \#\{\text{good} \ge d\}) / (n + 1)` among the leave-one-out distances of
            the fitted images at the same patch, after `calibrate`: for every other model. It assumes no
            distribution, and is conservative: p-values of good images are slightly larger than uniform
            ones, the more so the fewer samples there are for the features, since each leave-one-out
            distance comes from a model of one sample less. The smallest value is 1 / (n + 1).
        ``"chi2"``
            :math:`\chi^2` with as many degrees of freedom as the rank, for a model that has no exact
            distribution and was not calibrated. It is the limit for many samples *without* a ridge or
            shrinkage, and far off for few: with twice as many samples as features, nearly all good
            patches have a p-value below 1 %; with a ridge that is not small compared with all variances,
            none has. Prefer `calibrate`.
        """
        fitted = self._model()

        def kernel(b: slice, factor: Factor, z: Array) -> Array:
            d = factor.squared_norms(z)
            if fitted.distribution == "leave-one-out":
                assert fitted.loo_distances is not None
                return _distributions.rank_among(np.sqrt(d), fitted.loo_distances[b])
            return fitted.sf(d, factor.rank[:, None])

        return self._score("p_value", embedding, kernel)

    @property
    def p_value_law(self) -> str:
        """Distribution of `p_value`: ``"hotelling"`` (exact), ``"leave-one-out"`` or ``"chi2"`` (rough)."""
        return self._model().distribution

    def leave_one_out(self, embedding: ArrayLike, sample_weight: ArrayLike | None = None) -> Array:
        r"""Distance of every fitted image from the model that would be fitted without it.

        Parameters
        ----------
        embedding : array_like, shape (N, C, *grid)
            The embeddings that the model was fitted on, all of them, in any order.
        sample_weight : array_like, shape (N,), optional
            Their weights, if the model was fitted with weights.

        Returns
        -------
        ndarray, shape (N, *grid)
            Distances in standard deviations, in the floating dtype of the model.

        Raises
        ------
        ValueError
            If the samples are not those that were fitted, or too few to leave one out.
        TypeError
            If an argument is of the wrong kind.

        Notes
        -----
        With the deviation v from the mean of all n samples, the covariance without the sample is
        :math:`A - c\, v v^T` with :math:`A = \frac{n-1}{n-2} S + \varepsilon I` and
        :math:`c = \frac{n}{(n-1)(n-2)}` (for ``ddof=1``; the other cases alike), so that by Sherman &
        Morrison, with :math:`q = v^T A^{-1} v`,

        .. math:: d^2 = \left(\frac{n}{n-1}\right)^2 \frac{q}{1 - c q} .

        A patch is refitted only where this loses too many digits. The distances of fitted images under
        the model itself are too small, since the mean and the covariance were estimated from them.
        """
        fitted = self._model()
        fitted.require_moments()
        x = self._embedding(embedding, fitted)
        w = None
        if sample_weight is not None:
            w = _arguments.weights("sample_weight", sample_weight, (), x.n_samples)
        elif fitted.weighted:
            _arguments.raise_error("sample_weight", "the weights that the model was fitted with", "None")
        total = float(x.n_samples if w is None else w.sum())
        if x.n_samples != fitted.n_samples or not math.isclose(total, fitted.sum_weights, rel_tol=1e-9):
            _arguments.raise_error(
                "embedding",
                f"the {fitted.n_samples} samples that were fitted, of weight {fitted.sum_weights:g}",
                f"{x.n_samples} of weight {total:g}",
            )
        d = loo_distances(fitted, x, w, self._walk("leave_one_out"))
        return np.ascontiguousarray(d, fitted.dtype).reshape(x.n_samples, *x.grid)

    def _score(self, task: str, embedding: ArrayLike, kernel: Kernel) -> Array:
        """Return one number for each patch of each image."""
        with _blas.short_turns():
            fitted = self._model()
            x = self._embedding(embedding, fitted)
            result = np.empty((x.n_samples, *x.grid), fitted.dtype)
            fitted.factors(self._walk(task))
            self._score_into(result, x, fitted, task, kernel)
        return result

    def _score_into(self, result: Array, x: Embedding, fitted: Fitted, task: str, kernel: Kernel) -> None:
        """Write what a kernel makes of an embedding into an array, ``(M, *grid)`` or of its layout."""
        for part, stack in x.parts():
            out = x.stack(result[part]) if result.shape == x.shape else np.moveaxis(result[part], 0, -1)
            try:
                fitted.score(stack, out, kernel, self._walk(task))
            except OutOfRangeError:
                x.raise_not_finite(part, stack)
