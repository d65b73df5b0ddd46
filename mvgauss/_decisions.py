"""What a fitted model decides: limits from good images, good or defective."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike

from mvgauss import _arguments, _distributions, _limits
from mvgauss._arguments import Array
from mvgauss._conformal import checked_rate, conformal_p_value
from mvgauss._params import not_fitted
from mvgauss._scoring import Scoring
from mvgauss._warnings import DefaultThresholdWarning


class Decisions(Scoring):
    """The decisions of a model of patches."""

    def calibrate(self, embedding: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Keep leave-one-out distances of the fitted images, for `p_value` and `image_p_value`.

        Parameters
        ----------
        embedding : array_like, shape (N, C, *grid)
            The embeddings that the model was fitted on, as in `leave_one_out`.
        sample_weight : array_like, shape (N,), optional
            Their weights, if the model was fitted with weights.

        Returns
        -------
        MultiVariateGaussian
            The model itself. It keeps N numbers more for each patch, until new samples come.

        Raises
        ------
        ValueError
            As `leave_one_out`.
        """
        with self._training():
            d = self.leave_one_out(embedding, sample_weight)
            kept = np.sort(np.ascontiguousarray(d.reshape(len(d), -1).T), axis=1)
            self._fitted = replace(self._model(), loo_distances=kept, loo_largest=np.sort(_largest(d)))
        return self

    def threshold(
        self,
        embedding: ArrayLike,
        false_positive_rate: float = 0.01,
        *,
        source: Literal["held-out", "training"] = "held-out",
        sample_weight: ArrayLike | None = None,
    ) -> float:
        r"""Set the decision limit on the largest distance of an image, from good images alone.

        Parameters
        ----------
        embedding : array_like, shape (n, C, *grid)
            Good images: not used in fitting, or, with ``source="training"``, exactly the fitted ones.
        false_positive_rate : float, default 0.01
            Fraction of good images that may be flagged as defective, between 0 and 1.
        source : {"held-out", "training"}, default "held-out"
            Which of the two the images are.
        sample_weight : array_like, shape (n,), optional
            With ``source="training"``, the weights that the model was fitted with.

        Returns
        -------
        float
            The limit in standard deviations, which `predict` and `decision_function` use from now on.

        Raises
        ------
        ValueError
            If the rate is too small for n images (the message has the smallest possible rate), if the
            images are not what `source` says, as far as the model can tell (one of few samples knows
            each of them unless some are alike, one of more only all together), or as for `mahalanobis`
            and `leave_one_out`.
        TypeError
            If an argument is of the wrong kind.

        Notes
        -----
        The limit is the :math:`\lceil (n+1)(1-\alpha) \rceil`-th smallest of the images' largest
        distances.

        Held-out images make it a split conformal limit: whatever the distribution, a further
        good image exceeds it with probability at most :math:`\alpha`, if it and the n are
        exchangeable [1]_. The probability is over the n images too.

        The training images are scored by `leave_one_out`, each by a slightly different model from the
        one in use. The rate is then approximate, without a guarantee, but all images are used.

        References
        ----------
        .. [1] V. Vovk, A. Gammerman and G. Shafer, "Algorithmic Learning in a Random World", Springer,
           2005, chapter 2.
        """
        rate = checked_rate(false_positive_rate)
        if source not in ("held-out", "training"):
            _arguments.raise_error("source", "'held-out' or 'training'", _arguments.briefly(source))
        with self._training():
            self._require_fit()
            if source == "training":
                d = self.leave_one_out(embedding, sample_weight)
            else:
                if sample_weight is not None:
                    _arguments.raise_error("sample_weight", "None for held-out images", "weights")
                fitted = self._model()
                _limits.raise_if_fitted(fitted, self._embedding(embedding, fitted), self.n_jobs)
                d = self.mahalanobis(embedding)
            limit = _distributions.conformal_limit(_largest(d), rate)
            self._fitted = replace(self._model(), limit=limit)
        return limit

    @property
    def threshold_(self) -> float:
        """Limit of `predict`: that of `threshold`, one that was assigned, or else the default.

        The default is the distance that some patch of a good image exceeds with a probability of about
        5 %, by Bonferroni over the patches, if embeddings are Gaussian: by the exact law where there is
        one, or else by an approximate one that the moments give. Of parameters alone
        (`from_parameters`) it is that of chi-squared, which can be far off.
        """
        fitted = self._model()
        return _limits.by_default(fitted, self._walk("factors")) if fitted.limit is None else fitted.limit

    @threshold_.setter
    def threshold_(self, value: float) -> None:
        limit = _arguments.number("threshold_", value, low=0)
        with self._training():
            self._require_fit()
            self._fitted = replace(self._model(), limit=limit)

    @property
    def offset_(self) -> Any:
        """Log density at the distance `threshold_`, of the shape of the grid; ``(P,)`` if that is unknown."""
        fitted, limit = self._model(), self.threshold_
        factor = fitted.factors(self._walk("factors"))
        at_limit = _distributions.log_density(np.square(limit), factor.rank, factor.log_pdet)
        return at_limit if fitted.grid is None else at_limit.reshape(fitted.grid)[()]

    def decision_function(self, embedding: ArrayLike) -> Array:
        r"""How far the log density of each image, at its worst patch, stays above that at the limit.

        Parameters
        ----------
        embedding : array_like, shape (M, C, *grid)
            Embeddings of M images, on the grid that was fitted.

        Returns
        -------
        ndarray, shape (M,)
            Differences of log densities; negative for defective images.

        Raises
        ------
        ValueError
            If the model is not fitted, or the embedding is of another shape or not finite.
        TypeError
            If an argument is of the wrong kind.

        Warns
        -----
        DefaultThresholdWarning
            If no limit was set and the distribution of the model is not exact.

        Notes
        -----
        :math:`(l^2 - d^2) / 2` with the limit :math:`l`, `threshold_`, and the largest distance :math:`d`:
        the smallest of `score_samples` - `offset_` over the patches, as scikit-learn's outlier detectors
        have it; what a singular covariance leaves out does not count.
        """
        self._require_fit()
        fitted = self._model()
        if fitted.limit is None and fitted.distribution != "hotelling":
            warnings.warn(
                "no limit was set, so the default is used, which about 5 % of good images exceed if "
                "embeddings are Gaussian; set one with threshold(good_images, false_positive_rate)",
                DefaultThresholdWarning,
                stacklevel=_arguments.outside(),
            )
        limit, d = self.threshold_, _largest(self.mahalanobis(embedding)).astype(np.float64)
        with np.errstate(over="ignore"):  # of a limit that nothing reaches
            return np.asarray((limit - d) * (limit + d) / 2)

    def predict(self, embedding: ArrayLike) -> Array:
        """Classify images as good or defective, as scikit-learn's outlier detectors do.

        Parameters
        ----------
        embedding : array_like, shape (M, C, *grid)
            Embeddings of M images, on the grid that was fitted.

        Returns
        -------
        ndarray of int, shape (M,)
            +1 for an image whose largest distance is at most `threshold_`, else -1.

        Raises
        ------
        ValueError
            As `decision_function`.
        TypeError
            If an argument is of the wrong kind.

        Warns
        -----
        DefaultThresholdWarning
            As `decision_function`.
        """
        return np.where(self.decision_function(embedding) >= 0, 1, -1)

    def image_p_value(self, embedding: ArrayLike) -> Array:
        r"""Probability that a good image has a largest distance at least as large.

        Parameters
        ----------
        embedding : array_like, shape (M, C, *grid)
            Embeddings of M images that were not fitted, on the grid that was.

        Returns
        -------
        ndarray, shape (M,)
            Between 1 / (n + 1) and 1, for the n fitted images.

        Raises
        ------
        ValueError
            If the model was not calibrated, or the embedding is of another shape or not finite.
        TypeError
            If an argument is of the wrong kind.

        See Also
        --------
        calibrate : Has to be called first, with the fitted images.
        conformal_p_value : The same of any score, from held-out images.

        Notes
        -----
        :math:`(1 + \#\{\text{good} \ge d\}) / (n + 1)` among the largest leave-one-out distances of the
        fitted images. Each of them belongs to a model of one image less: an approximation, without
        the guarantee of held-out images.
        """
        largest = self._model().loo_largest
        if largest is None:
            raise ValueError(
                "image_p_value: expected a model with leave-one-out distances of whole images, got one "
                "without; call calibrate(embedding) with the fitted images"
            )
        return conformal_p_value(_largest(self.mahalanobis(embedding)), largest)

    def _require_fit(self) -> None:
        """Refuse to decide with the identity that a model has before it is fitted."""
        if self._fitted is None:
            raise not_fitted("this MultiVariateGaussian is not fitted yet; call fit(embedding) first")


def _largest(distances: Array) -> Array:
    """Return the largest distance of each image."""
    return np.asarray(distances.reshape(len(distances), -1).max(axis=1))
