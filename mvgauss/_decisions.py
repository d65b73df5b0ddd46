"""What a fitted model decides: limits from good images, good or defective."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal, Self

import numpy as np
from numpy.typing import ArrayLike

from mvgauss import _checks, _distributions
from mvgauss._checks import Array
from mvgauss._scoring import Scoring


class Decisions(Scoring):
    """The decisions of a model of patches."""

    def calibrate(self, embedding: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Keep the leave-one-out distances of the fitted images, for `p_value` where no law is exact.

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
        """
        with self._training():
            d = self.leave_one_out(embedding, sample_weight)
            kept = np.sort(np.ascontiguousarray(d.reshape(len(d), -1).T), axis=1)
            self._fitted = replace(self._model(), loo_distances=kept)
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
            How many good images may be called defective, between 0 and 1.
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
            If n images cannot support the rate; the message names the smallest that they can. Or as
            `mahalanobis` and `leave_one_out`.
        TypeError
            If an argument is of the wrong kind.

        Notes
        -----
        The limit is the :math:`\lceil (n+1)(1-\alpha) \rceil`-th smallest of the images' largest
        distances.

        Held-out images make it a split conformal limit: whatever the distribution, a further
        good image exceeds it with probability at most :math:`\alpha`, if it and the n are
        exchangeable [1]_. The probability is over the n images too.

        The training images are measured by `leave_one_out`, each under a slightly different model
        from the one that is used. That is close, and uses all images, but carries no such guarantee.

        References
        ----------
        .. [1] V. Vovk, A. Gammerman and G. Shafer, "Algorithmic Learning in a Random World", Springer,
           2005, chapter 2.
        """
        rate = _checks.number("false_positive_rate", false_positive_rate, low=0, above=True)
        if rate >= 1:
            _checks.refuse("false_positive_rate", "a number between 0 and 1", f"{rate:g}", hint="5 % is 0.05")
        if source not in ("held-out", "training"):
            _checks.refuse("source", "'held-out' or 'training'", _checks.briefly(source))
        with self._training():
            if source == "training":
                d = self.leave_one_out(embedding, sample_weight)
            else:
                d = self.mahalanobis(embedding)
            limit = _distributions.conformal_limit(_largest(d), rate)
            self._fitted = replace(self._model(), limit=limit)
        return limit

    @property
    def threshold_(self) -> float:
        """Limit of `predict`: that of `threshold`, or else a rough one.

        The rough one is the distance that some patch of a good image exceeds with a probability of
        1 %, by Bonferroni over the patches, under the exact law or else under that of chi-squared.
        """
        fitted = self._model()
        if fitted.limit is not None:
            return fitted.limit
        rank = fitted.factors(self._walk("factors")).rank.max()
        return math.sqrt(fitted.isf(0.01 / fitted.n_patches, rank))

    def decision_function(self, embedding: ArrayLike) -> Array:
        """How far the largest distance of each image stays below `threshold_`.

        Parameters
        ----------
        embedding : array_like, shape (M, C, *grid)
            Embeddings of M images, on the grid that was fitted.

        Returns
        -------
        ndarray, shape (M,)
            Margins in standard deviations; negative for defective images.
        """
        return np.asarray(self.threshold_ - _largest(self.mahalanobis(embedding)).astype(np.float64))

    def predict(self, embedding: ArrayLike) -> Array:
        """Tell good images from defective ones, as scikit-learn's outlier detectors do.

        Parameters
        ----------
        embedding : array_like, shape (M, C, *grid)
            Embeddings of M images, on the grid that was fitted.

        Returns
        -------
        ndarray of int, shape (M,)
            +1 for an image whose largest distance is at most `threshold_`, else -1.
        """
        return np.where(self.decision_function(embedding) >= 0, 1, -1)


def _largest(distances: Array) -> Array:
    """Return the largest distance of each image."""
    return np.asarray(distances.reshape(len(distances), -1).max(axis=1))
