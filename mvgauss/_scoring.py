"""What a fitted model says of images: distances, densities, probabilities, decisions, diagnostics."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal, Self

import numpy as np
from numpy.typing import ArrayLike

from mvgauss import _checks, _scores, _training, _whitening
from mvgauss._checks import Array
from mvgauss._embedding import Embedding
from mvgauss._fitted import Fitted, NotFiniteError
from mvgauss._model import PatchModel


class Scoring(PatchModel):
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
        squared = _checks.flag("squared", squared)
        return self._score("mahalanobis", embedding, lambda z, w: (_whitening.distances(z, w, squared),))

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
        ValueError
            If the model is not fitted, or the embedding is of another shape or not finite.
        TypeError
            If an argument is of the wrong kind.

        Notes
        -----
        :math:`-\tfrac12 (r \log 2\pi + \log\operatorname{pdet} \hat\Sigma + d^2)` with the rank r, as
        ``scipy.stats.multivariate_normal(allow_singular=True)``. A patch is off the support when the
        part of :math:`x - \mu` outside is longer than :math:`\sqrt{C \epsilon}` times the larger of
        :math:`\lVert x - \mu \rVert` and the largest standard deviation, with :math:`\epsilon` of the
        dtype of the model.
        """
        factors = self._model().made(self._walk("factors"))

        def kernel(z: Array, w: Array, rank: Array, log_pdet: Array) -> tuple[Array]:
            squared = _whitening.squared_norms(z, w).astype(np.float64)
            result = _scores.log_density(squared, rank[:, None], log_pdet[:, None])
            deficient = np.flatnonzero(rank < w.shape[-1])
            if deficient.size:
                off = _scores.off_support(z[deficient], w[deficient])
                result[deficient] = np.where(off, -np.inf, result[deficient])
            return (result,)

        return self._score("score_samples", embedding, kernel, (factors.rank, factors.log_pdet))

    def p_value(self, embedding: ArrayLike) -> Array:
        r"""Probability of a distance at least as large, for a patch of a new good image.

        Parameters
        ----------
        embedding : array_like, shape (M, C, *grid)
            Embeddings of M images that were not fitted, on the grid that was.

        Returns
        -------
        ndarray, shape (M, *grid)
            Between 0 and 1; `p_value_law` says by which law.

        Raises
        ------
        ValueError
            If the model is not fitted, or the embedding is of another shape or not finite.
        TypeError
            If an argument is of the wrong kind.

        Notes
        -----
        ``"hotelling"``
            :math:`d^2 \sim \frac{p (n+1)(n-1)}{n (n-p)} F(p, n-p)`, exact under the model: for
            n samples of equal weight, more than features, without ridge and shrinkage. p is the rank.
        ``"leave-one-out"``
            :math:`(1 + \#\{\text{good} \ge d\}) / (n + 1)` among the leave-one-out distances of
            the fitted images at the same patch, after `calibrate`: for every other model. It needs no
            law, and is close to uniform and on the safe side: a good image is called less often
            than it says, the more so the fewer samples there are for the features, since
            each left-out distance comes from a model of one sample less. The smallest value is
            1 / (n + 1).
        ``"chi2"``
            :math:`\chi^2` with as many degrees of freedom as the rank, for a model that has no exact
            law and was not calibrated. It is the limit for many samples *without* a ridge or
            shrinkage, and far off for few: with n = 200, p = 100 and no ridge its 1 % limit fires on
            97 % of good patches, and a ridge that is not small against all variances makes it never
            fire. Prefer `calibrate`.
        """
        fitted = self._model()
        rank = fitted.made(self._walk("factors")).rank
        good = () if fitted.good is None or fitted.law != "leave-one-out" else (fitted.good,)

        def kernel(z: Array, w: Array, rank: Array, *good: Array) -> tuple[Array]:
            return (fitted.p_values(_whitening.squared_norms(z, w), rank, *good),)

        return self._score("p_value", embedding, kernel, (rank, *good))

    @property
    def p_value_law(self) -> str:
        """Law of `p_value`: ``"hotelling"`` (exact), ``"leave-one-out"`` or ``"chi2"`` (rough)."""
        return self._model().law

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
            If the samples are not those that were fitted, or too few to leave one out, or if the
            shrinkage is estimated: its intensity would be another one without the sample, and has
            no closed form.
        TypeError
            If an argument is of the wrong kind.

        Notes
        -----
        Nothing is fitted again. With the deviation v from the mean of all n samples, the covariance
        without the sample is :math:`A - c\, v v^T` with :math:`A = \frac{n-1}{n-2} S + \varepsilon I`
        and :math:`c = \frac{n}{(n-1)(n-2)}` (for ``ddof=1``; the other cases alike), so that by Sherman
        & Morrison, with :math:`q = v^T A^{-1} v`,

        .. math:: d^2 = \left(\frac{n}{n-1}\right)^2 \frac{q}{1 - c q} .

        The distances of fitted images under the model itself are too small, since each of them
        pulled the mean and the covariance; these are honest.
        """
        fitted = self._model()
        fitted.refuse_without_moments()
        if isinstance(fitted.how.shrinkage, str):
            _checks.refuse(
                "shrinkage",
                "None or a float to leave one out",
                f"{fitted.how.shrinkage!r}",
                hint="an estimated intensity is another one without each sample, in no closed form; "
                "calibrate on held-out images instead",
            )
        x = self._embedding(embedding, fitted)
        w = None
        if sample_weight is not None:
            w = _checks.weights("sample_weight", sample_weight, (), x.n_samples)
        elif fitted.unequal:
            _checks.refuse("sample_weight", "the weights that the model was fitted with", "None")
        total = float(x.n_samples if w is None else w.sum())
        if x.n_samples != fitted.n_samples or not math.isclose(total, fitted.sum_weights, rel_tol=1e-9):
            _checks.refuse(
                "embedding",
                f"the {fitted.n_samples} samples that were fitted, of weight {fitted.sum_weights:g}",
                f"{x.n_samples} of weight {total:g}",
            )
        result = np.empty((x.n_samples, *x.grid), fitted.dtype)
        total_moved = np.zeros((*x.grid, x.n_features), fitted.working)
        moved = np.empty_like(total_moved)
        for part, stack in x.parts():
            x.refuse_if_not_finite(part, stack)
            try:
                _training.leave_one_out(
                    fitted,
                    stack,
                    None if w is None else w[part],
                    np.moveaxis(result[part], 0, -1),
                    moved,
                    self._walk("leave_one_out"),
                )
            except NotFiniteError:
                x.refuse_not_finite(part, stack, fitted.working)
            total_moved += moved
        _training.refuse_other_samples(fitted, total_moved.reshape(fitted.mean.shape))
        return result

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
            good = np.sort(np.ascontiguousarray(d.reshape(len(d), -1).T), axis=1)
            self._fitted = replace(self._model(), good=good)
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
            limit = _scores.conformal_limit(_largest(d), rate)
            self._fitted = replace(self._model(), limit=limit)
        return limit

    @property
    def threshold_(self) -> float:
        """Limit of `predict`: that of `threshold`, or else a rough one.

        The rough one is the distance that some patch of a good image exceeds with a probability of
        1 %, by Bonferroni over the patches, under the exact law or else under that of chi-squared.
        """
        fitted = self._model()
        return fitted.limit_of_law(0.01) if fitted.limit is None else fitted.limit

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
        ValueError
            If the model is not fitted, or the embedding is of another shape or not finite.
        TypeError
            If an argument is of the wrong kind.

        Notes
        -----
        :math:`c_j = (x - \mu)_j [\hat\Sigma^{-1} (x - \mu)]_j`; see Mason, Tracy & Young,
        "Decomposition of T² for multivariate control chart interpretation", J. Quality Technology
        27(2), 1995, on how to read such parts.
        """
        fitted = self._model()
        x = self._embedding(embedding, fitted)
        result = np.empty(x.shape, fitted.dtype)

        def kernel(z: Array, w: Array) -> tuple[Array]:
            return (z * np.matmul(np.matmul(z, w.swapaxes(1, 2)), w),)

        self._score_into(result, x, fitted, "contributions", kernel)
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
        factors = fitted.made(walk)
        w, v = fitted.sum_weights, fitted.sum_squared_weights
        maps = {
            "rank": factors.rank.copy(),
            "condition": fitted.condition(walk),
            "effective_samples": np.full(fitted.n_patches, w * w / v if v else 0.0),
            "shrinkage": factors.shrinkage.copy(),
        }
        grid = (fitted.n_patches,) if fitted.grid is None else fitted.grid
        result = {name: a.reshape(grid) for name, a in maps.items()}
        if embedding is not None:
            fitted.refuse_without_moments()
            x = self._embedding(embedding, fitted)
            if x.n_samples != fitted.n_samples or fitted.unequal:
                _checks.refuse(
                    "embedding", f"the {fitted.n_samples} samples fitted, of equal weight", f"{x.n_samples}"
                )
            share, expected = np.empty(grid), np.empty(grid)
            kurtosis = np.zeros(grid)
            for part, stack in x.parts():
                x.refuse_if_not_finite(part, stack)
                _training.kurtosis(fitted, stack, share, expected, walk)
                kurtosis += share
            result |= {"kurtosis": kurtosis, "kurtosis_expected": expected}
        return result

    def _score(
        self,
        task: str,
        embedding: ArrayLike,
        kernel: Callable[..., tuple[Array, ...]],
        operands: Sequence[Array] = (),
    ) -> Array:
        """Apply a kernel that gives one number for each patch of each image."""
        fitted = self._model()
        x = self._embedding(embedding, fitted)
        result = np.empty((x.n_samples, *x.grid), fitted.dtype)
        self._score_into(result, x, fitted, task, kernel, operands)
        return result

    def _score_into(
        self,
        result: Array,
        x: Embedding,
        fitted: Fitted,
        task: str,
        kernel: Callable[..., tuple[Array, ...]],
        operands: Sequence[Array] = (),
    ) -> None:
        """Write what a kernel makes of an embedding into an array, ``(M, *grid)`` or of its layout."""
        for part, stack in x.parts():
            out = x.stack(result[part]) if result.shape == x.shape else np.moveaxis(result[part], 0, -1)
            try:
                fitted.score(stack, [out], kernel, operands, self._walk(task))
            except NotFiniteError:
                x.refuse_not_finite(part, stack, fitted.dtype)


def _largest(distances: Array) -> Array:
    """Return the largest distance of each image."""
    return np.asarray(distances.reshape(len(distances), -1).max(axis=1))
