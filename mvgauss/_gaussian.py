"""`MultiVariateGaussian`: composes the other rooms, owns the axes of a picture."""

from __future__ import annotations

import inspect
import math
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal, Self
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from mvgauss import _checks, _files, _scores, _whitening
from mvgauss._checks import Array
from mvgauss._embedding import Embedding
from mvgauss._fitted import Fitted, NotFiniteError, Walk
from mvgauss._moments import cov
from mvgauss._shrinkage import Regularisation, refuse_weights

__all__ = ["MultiVariateGaussian"]

#: Fitting calls on one model wait for each other; the locks live beside the models, which are
#: copied and pickled as plain objects.
_locks: WeakKeyDictionary[MultiVariateGaussian, threading.Lock] = WeakKeyDictionary()
_locks_lock = threading.Lock()


class NotFittedError(ValueError, AttributeError):
    """The model has no parameters yet."""


def _not_fitted(message: str) -> NotFittedError:
    """Return that error; one that scikit-learn knows too, where it is in use."""
    theirs = getattr(sys.modules.get("sklearn.exceptions"), "NotFittedError", None)
    if theirs is None:
        return NotFittedError(message)
    error: NotFittedError = type("NotFittedError", (NotFittedError, theirs), {})(message)
    return error


class MultiVariateGaussian:
    r"""One multivariate Gaussian for each patch of image embeddings.

    Axis 0 of an embedding is samples, `feature_axis` is features, and all other axes are the grid of
    patches: ``(N, C, H, W)``, ``(N, C, P)`` or ``(N, C)``; with ``feature_axis=-1`` also ViT tokens
    ``(N, P, C)`` and ``(N, H, W, C)``.

    Parameters
    ----------
    n_features : int, optional
        Number of features C to expect. With `n_patches`, the model has zero means and identity
        inverse covariances until it is fitted.
    n_patches : int, optional
        Number of patches P to expect.
    reg_covar : float, default 0.01
        Ridge added to the diagonal of every covariance, in the unit of the features squared. 0.01 is
        that of anomalib up to 1.2 and of the PaDiM paper; 0.01001 that of anomalib 2. With 0, the
        pseudo-inverse takes over where a covariance is singular.
    shrinkage : float in [0, 1], "oas" or "ledoit_wolf", optional
        Intensity of the shrinkage towards a multiple of the identity, or how to estimate it for each
        patch. Not with `sample_weight`.
    ddof : float, default 1
        Delta degrees of freedom of the covariances.
    feature_axis : int, default 1
        Which axis of an embedding holds the features.
    dtype : dtype, optional
        ``float32`` or ``float64``, to compute and to keep results in. By default computing is in
        double precision, and results are kept in single for an embedding in half or single
        precision, else in double.
    n_jobs : int, optional
        Number of threads, as in joblib: all CPUs that this process may use for None or -1, one less
        for -2; 1 for no threads.
    progress : bool, default False
        Whether to show a progress bar over blocks of patches. Needs tqdm.

    Attributes
    ----------
    mean : ndarray, shape (C, P)
        Mean of each patch; P counts the grid in row-major order.
    covariance : ndarray, shape (P, C, C)
        Regularised covariances, the ridge included; computed when asked for.
    inv_covariance : ndarray, shape (P, C, C)
        Their (pseudo-)inverses, exactly symmetric; computed from the factors when asked for.
    rank : ndarray of int, shape (P,)
        Ranks of the regularised covariances.

    See Also
    --------
    anomaly_map : Upsample the distances to a map.
    cov, pinv, mahalanobis : The same computations on plain stacks.

    Notes
    -----
    This is the Gaussian of PaDiM [1]_, with shrinkage before the ridge:

    .. math:: \hat\Sigma = (1 - \rho) S + \rho\, (\operatorname{tr} S / C)\, I + \varepsilon I .

    What is kept for each patch is its mean, the triangle of its scatter (both merge, so they stand
    for any number of samples) and a factor W with :math:`W^T W = \hat\Sigma^{-1}`. A distance is
    :math:`\lVert W (x - \mu) \rVert`.

    The intensities :math:`\rho` are those of the papers for the covariance of divisor n, as in
    scikit-learn, and are applied to the covariance with `ddof`. ``"oas"`` [2]_ (eq. 23) is
    scikit-learn's, which leaves out the paper's two terms 2/p and differs from it for few features.
    ``"ledoit_wolf"`` [3]_ needs :math:`q = \sum \lVert z \rVert^4`, :math:`z = x - \bar x`, which
    merges exactly if :math:`t = \sum \lVert z \rVert^2 z` is carried along (C + 1 numbers per patch):
    when the mean moves by :math:`-\delta`, with the scatter :math:`M`,

    .. math::
       t &\to t + \operatorname{tr}(M)\, \delta + 2 M \delta + n \lVert\delta\rVert^2 \delta \\
       q &\to q + 4\, t^T \delta + 4\, \delta^T M \delta + 2 \operatorname{tr}(M) \lVert\delta\rVert^2
           + n \lVert\delta\rVert^4

    with the old t on the right, by expanding :math:`\lVert z + \delta \rVert^2` and
    :math:`\sum z = 0`; then those of the parts add up.

    Scoring is safe from several threads at once; fitting calls on one model wait for each other.

    A zero variance is treated differently by the two ways to regularise. The ridge punishes a
    deviation there by :math:`1/\varepsilon`; the pseudo-inverse (``reg_covar=0``) ignores it. To find
    defects, keep the ridge.

    ============================  ==============================================
    anomalib                      here
    ============================  ==============================================
    ``MultiVariateGaussian()``    ``MultiVariateGaussian(reg_covar=0.01001)``
    ``mean, inv = m.fit(x)``      the same
    ``m.forward(x)``              the same, a list of two arrays
    ``m._cov(x, ...)``            the same, see `cov`
    ============================  ==============================================

    References
    ----------
    .. [1] T. Defard, A. Setkov, A. Loesch and R. Audigier, "PaDiM: a Patch Distribution Modeling
       Framework for Anomaly Detection and Localization", 2020, arXiv:2011.08785.
    .. [2] Y. Chen, A. Wiesel, Y. C. Eldar and A. O. Hero, "Shrinkage Algorithms for MMSE Covariance
       Estimation", IEEE Trans. Signal Processing 58(10), 2010, arXiv:0907.4698.
    .. [3] O. Ledoit and M. Wolf, "A well-conditioned estimator for large-dimensional covariance
       matrices", J. Multivariate Analysis 88(2), 365-411, 2004.

    Examples
    --------
    >>> import numpy as np
    >>> from mvgauss import MultiVariateGaussian
    >>> embedding = np.array([0.0, 2.0, 4.0]).reshape(3, 1, 1, 1) * np.ones((3, 1, 1, 2))
    >>> model = MultiVariateGaussian(reg_covar=0).fit(embedding)
    >>> model.mean, model.covariance.ravel()
    (array([[2., 2.]]), array([4., 4.]))
    >>> model.mahalanobis(np.array([[[[2.0, 6.0]]]]))
    array([[[0., 2.]]])
    """

    _fitted: Fitted | None = None

    def __init__(
        self,
        n_features: int | None = None,
        n_patches: int | None = None,
        *,
        reg_covar: float = 0.01,
        shrinkage: float | str | None = None,
        ddof: float = 1,
        feature_axis: int = 1,
        dtype: DTypeLike | None = None,
        n_jobs: int | None = None,
        progress: bool = False,
    ) -> None:
        self.n_features = n_features
        self.n_patches = n_patches
        self.reg_covar = reg_covar
        self.shrinkage = shrinkage
        self.ddof = ddof
        self.feature_axis = feature_axis
        self.dtype = dtype
        self.n_jobs = n_jobs
        self.progress = progress

    _cov = staticmethod(cov)

    def fit(self, embedding: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None) -> Self:
        """Fit a Gaussian to each patch; what was fitted before is forgotten.

        Parameters
        ----------
        embedding : array_like, shape (N, C, *grid)
            Embeddings of N normal images; the place of C is `feature_axis`.
        y : object, optional
            Ignored; there for scikit-learn's pipelines.
        sample_weight : array_like, shape (N,), optional
            Relative importance of each image, as `aweights` of `cov`.

        Returns
        -------
        MultiVariateGaussian
            The model itself. It unpacks: ``mean, inv_covariance = model.fit(embedding)``.

        Raises
        ------
        ValueError
            If the embedding has the wrong shape, is not finite (the message has the index of the
            first NaN), or has no more samples than `ddof`; or if a parameter is out of range. The
            model is left as it was.
        TypeError
            If an argument is of the wrong kind.
        """
        with self._training():
            fitted = self._updated(None, embedding, sample_weight, factors=True)
            fitted.refuse_unsolvable()
            self._fitted = fitted
        return self

    def partial_fit(
        self, embedding: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Go on fitting with more samples.

        In any split of the samples, and any order, the model is that of `fit` on all of them, to
        rounding. After `fit`, it goes on from it. The factors are made at the first use.

        Parameters
        ----------
        embedding : array_like, shape (N, C, *grid)
            Embeddings of N more images, of the sizes seen before.
        y : object, optional
            Ignored; there for scikit-learn's pipelines.
        sample_weight : array_like, shape (N,), optional
            Relative importance of each image; its scale matters against that of other calls.

        Returns
        -------
        MultiVariateGaussian
            The model itself.

        Raises
        ------
        ValueError
            As `fit`, or if the sizes differ from those seen before, or if the model was saved
            without its moments. The model is left as it was.
        TypeError
            If an argument is of the wrong kind.
        """
        with self._training():
            self._fitted = self._updated(self._fitted, embedding, sample_weight)
        return self

    def merge(self, other: MultiVariateGaussian) -> Self:
        """Take in the samples of another model, as if they had been fitted here.

        Parameters
        ----------
        other : MultiVariateGaussian
            Fitted on embeddings of the same sizes; it does not change.

        Returns
        -------
        MultiVariateGaussian
            The model itself.

        Raises
        ------
        ValueError
            If one of the models has no moments, or they differ in sizes or in the dtype they compute
            in. The model is left as it was.
        TypeError
            If `other` is no `MultiVariateGaussian`.
        """
        if not isinstance(other, MultiVariateGaussian):
            _checks.refuse("other", "a MultiVariateGaussian", type(other).__name__, TypeError)
        theirs = other._fitted
        if theirs is None:
            raise _not_fitted("other: expected a fitted model, got one that is not fitted")
        theirs.refuse_without_moments()
        with self._training():
            how = self._regularisation()
            mine = self._fitted
            if mine is None:
                for what, wanted, got in (
                    ("features", self.n_features, theirs.n_features),
                    ("patches", self.n_patches, theirs.n_patches),
                ):
                    if wanted is not None and wanted != got:
                        _checks.refuse("other", f"{wanted} {what}", f"{got}")
                self._fitted = theirs.regularised(how)
                return self
            mine.refuse_without_moments()
            for what in ("n_features", "grid", "working"):
                if getattr(mine, what) != getattr(theirs, what):
                    _checks.refuse("other", f"{what} = {getattr(mine, what)}", f"{getattr(theirs, what)}")
            self._fitted = mine.regularised(how).merged(theirs.regularised(how), self._walk("merge"))
        return self

    def forward(self, embedding: ArrayLike) -> list[Array]:
        """Fit, and return the two parameters as a plain list, as anomalib does.

        Parameters
        ----------
        embedding : array_like, shape (N, C, *grid)
            As in `fit`.

        Returns
        -------
        list of ndarray
            ``[mean, inv_covariance]``, of shapes (C, P) and (P, C, C).
        """
        return list(self.fit(embedding))

    __call__ = forward

    def __iter__(self) -> Iterator[Array]:
        """Unpack into ``mean, inv_covariance``."""
        yield self.mean
        yield self.inv_covariance

    @property
    def mean(self) -> Array:
        """Mean of each patch, ``(C, P)``."""
        fitted = self._model()
        return np.array(fitted.mean.T, fitted.dtype, order="C")

    @property
    def covariance(self) -> Array:
        """Regularised covariances, ``(P, C, C)``."""
        return self._model().covariance(self._walk("covariance"))

    @property
    def inv_covariance(self) -> Array:
        """Inverses of the regularised covariances, ``(P, C, C)``."""
        return self._model().inv_covariance(self._walk("inv_covariance"))

    @property
    def rank(self) -> Array:
        """Ranks of the regularised covariances, ``(P,)``."""
        return self._model().made(self._walk("factors")).rank.copy()

    @property
    def nbytes(self) -> int:
        """Bytes that the fitted model keeps: means, moments, and factors once they are made."""
        return self._model().nbytes

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
            law and is close to uniform, since a new distance and a left-out one differ by one
            sample only. The smallest value is 1 / (n + 1).
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
                hint="an estimated intensity is another one without each sample, in no closed form",
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
        for part, stack in x.parts():
            _checks.finite("embedding", np.asarray(x.value[part]), part.start)
            fitted.leave_one_out(
                stack,
                None if w is None else w[part],
                np.moveaxis(result[part], 0, -1),
                self._walk("leave_one_out"),
            )
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
            good = np.sort(d.reshape(len(d), -1).T, axis=1)
            self._fitted = replace(self._model(), good=good)
        return self

    def threshold(
        self,
        embedding: ArrayLike,
        false_positive_rate: float = 0.01,
        *,
        source: Literal["held-out", "training"] = "held-out",
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
            _checks.refuse("false_positive_rate", "a number between 0 and 1", f"{rate:g}")
        if source not in ("held-out", "training"):
            _checks.refuse("source", "'held-out' or 'training'", _checks.briefly(source))
        with self._training():
            of = self.mahalanobis if source == "held-out" else self.leave_one_out
            limit = _scores.conformal_limit(_largest(of(embedding)), rate)
            self._fitted = replace(self._model(), limit=limit)
        return limit

    @property
    def threshold_(self) -> float:
        """Limit of `predict`: that of `threshold`, or else 1 % by `p_value_law`, Bonferroni over patches."""
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
            value = np.asarray(x.value[:])
            _checks.finite("embedding", value)
            for name in ("kurtosis", "kurtosis_expected"):
                result[name] = np.empty(grid)
            stack = x.stack(value)
            fitted.kurtosis(stack, result["kurtosis"], result["kurtosis_expected"], walk)
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
                x.refuse_not_finite(part, fitted.dtype)

    def save(self, path: str | os.PathLike[str], *, resumable: bool = True) -> None:
        """Write the model to one `.npz` file, without pickle.

        The file is written under another name and moved into place, so that a failure leaves an old
        file as it was.

        Parameters
        ----------
        path : path-like
            Where to write; the name is taken as it is.
        resumable : bool, default True
            Whether to keep the moments, with which a loaded model goes on fitting, bit for bit as if
            it had not been interrupted. Without them the file is about half as large; it has the
            factors instead.

        Raises
        ------
        ValueError
            If the model is not fitted.
        OSError
            If the file cannot be written.
        """
        if not _checks.flag("resumable", resumable):
            fitted = self._model().without_moments(self._walk("factors"))
        else:
            fitted = self._model()
        dtype = None if self.dtype is None else np.dtype(self.dtype).name
        header, arrays = fitted.state()
        _files.write(path, {"params": {**self.get_params(), "dtype": dtype}, **header}, arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a model that `save` wrote.

        Parameters
        ----------
        path : path-like
            The file.

        Returns
        -------
        MultiVariateGaussian
            A model equal to the saved one.

        Raises
        ------
        ValueError
            If the file is missing, truncated, damaged, of a later version or of another kind.
        """
        header, arrays = _files.read(path)
        try:
            self = cls(**header.pop("params"))
            self._fitted = Fitted.from_state(header, arrays)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"path: expected the parts of a saved model, got others: {error}") from error
        return self

    @classmethod
    def from_parameters(
        cls,
        mean: ArrayLike,
        inv_covariance: ArrayLike,
        *,
        feature_axis: int = 1,
        dtype: DTypeLike | None = None,
    ) -> Self:
        """Make a model from a mean and inverse covariances, as anomalib stores them.

        Parameters
        ----------
        mean : array_like, shape (C, P)
            Mean of each patch.
        inv_covariance : array_like, shape (P, C, C)
            Symmetric positive semi-definite up to rounding.
        feature_axis : int, default 1
            Which axis of an embedding will hold the features.
        dtype : dtype, optional
            To keep the factors in; by default that of the parameters, at least single.

        Returns
        -------
        MultiVariateGaussian
            A model that scores embeddings with C features and a grid of any shape with P patches.

        Raises
        ------
        ValueError
            If shapes do not fit, a number is not finite, or a matrix is not symmetric positive
            semi-definite.
        TypeError
            If an argument is of the wrong kind.
        """
        mu = _checks.array("mean", mean)
        p = _checks.array("inv_covariance", inv_covariance)
        if mu.ndim != 2 or 0 in mu.shape:
            _checks.refuse("mean", "shape (C, P)", f"shape {mu.shape}")
        wanted = (mu.shape[1], mu.shape[0], mu.shape[0])
        if p.shape != wanted:
            _checks.refuse("inv_covariance", f"shape {wanted} as mean is {mu.shape}", f"shape {p.shape}")
        _checks.finite("mean", mu)
        self = cls(feature_axis=feature_axis, dtype=dtype)
        _, stored = self._dtypes(np.result_type(mu, p))
        self._fitted = Fitted.from_inverse(mu.T, p, stored)
        return self

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters of the constructor.

        Parameters
        ----------
        deep : bool, default True
            Without effect, as no parameter is an estimator; there for scikit-learn.

        Returns
        -------
        dict
            Names and values.
        """
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def set_params(self, **params: Any) -> Self:
        """Set parameters of the constructor; they take effect at the next `fit`.

        Parameters
        ----------
        **params : object
            Names and new values.

        Returns
        -------
        MultiVariateGaussian
            The model itself.

        Raises
        ------
        ValueError
            If a name is not a parameter; nothing is then set.
        """
        known = self.get_params()
        for name in params:
            if name not in known:
                _checks.refuse("set_params", f"one of {', '.join(known)}", name)
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def _model(self) -> Fitted:
        """Return what is fitted, or the identity of the sizes given to the constructor."""
        if self._fitted is not None:
            return self._fitted
        if self.n_features is None or self.n_patches is None:
            raise _not_fitted("this MultiVariateGaussian is not fitted yet; call fit(embedding) first")
        c = _checks.integer("n_features", self.n_features, low=1)
        p = _checks.integer("n_patches", self.n_patches, low=1)
        _, stored = self._dtypes(np.dtype(np.float32))
        return Fitted.identity(c, p, stored)

    def _dtypes(self, given: np.dtype[Any]) -> tuple[np.dtype[Any], np.dtype[Any]]:
        """Return the dtypes to compute in and to keep results in."""
        if self.dtype is None:
            return np.dtype(np.float64), _checks.stored(given)
        dtype = _checks.inexact("dtype", self.dtype, kinds="f")
        if dtype.itemsize not in (4, 8):
            _checks.refuse("dtype", "float32 or float64", str(dtype))
        return dtype, dtype

    @property
    def n_features_in_(self) -> int:
        """Number of features of the fitted embeddings."""
        return self._model().n_features

    def __sklearn_tags__(self) -> Any:
        """Tell scikit-learn, which alone asks, what kind of estimator this is."""
        from sklearn.utils import InputTags, Tags, TargetTags

        return Tags(
            estimator_type=None,
            target_tags=TargetTags(required=False),
            input_tags=InputTags(two_d_array=True, three_d_array=True),
            array_api_support=False,
        )

    def __sklearn_is_fitted__(self) -> bool:
        """Tell scikit-learn whether `fit` was called."""
        return self._fitted is not None

    def _embedding(self, value: ArrayLike, fitted: Fitted | None) -> Embedding:
        """Return an embedding of the sizes seen before, or of those given to the constructor."""
        x = Embedding(value, self.feature_axis)
        if fitted is None:
            x.refuse_other(self.n_features, self.n_patches)
        else:
            x.refuse_other(fitted.n_features, fitted.n_patches, fitted.grid)
        return x

    def _updated(
        self,
        base: Fitted | None,
        embedding: ArrayLike,
        sample_weight: ArrayLike | None,
        factors: bool = False,
    ) -> Fitted:
        """Return the model of `base` and more samples, with its factors where they come at no cost."""
        how = self._regularisation()
        if base is not None:
            base.refuse_without_moments()
        x = self._embedding(embedding, base)
        w = None
        if sample_weight is not None:
            w = _checks.weights("sample_weight", sample_weight, (), x.n_samples)
            if how.shrinkage is not None:
                refuse_weights(how)
        working, stored = self._dtypes(x.dtype)
        if base is not None:
            working, stored = base.working, base.dtype
            base = base.regularised(how)
        for part, stack in x.parts():
            try:
                base = Fitted.of_samples(
                    stack,
                    None if w is None else w[part],
                    working=working,
                    dtype=stored,
                    how=how,
                    base=base,
                    factors=factors and stack.shape[-2] == x.n_samples,
                    walk=self._walk("fit"),
                )
            except NotFiniteError:
                x.refuse_not_finite(part, working)
        assert base is not None
        return base

    def _regularisation(self) -> Regularisation:
        """Return how covariances are made, from the parameters as they are now."""
        return Regularisation.checked(self.ddof, self.reg_covar, self.shrinkage)

    def _walk(self, task: str) -> Walk:
        """Return how blocks are walked."""
        return Walk(self.n_jobs, task if _checks.flag("progress", self.progress) else None)

    @contextmanager
    def _training(self) -> Iterator[None]:
        """Let one thread at a time change this model."""
        with _locks_lock:
            lock = _locks.setdefault(self, threading.Lock())
        with lock:
            yield


def _largest(distances: Array) -> Array:
    """Return the largest distance of each image."""
    return np.asarray(distances.reshape(len(distances), -1).max(axis=1))
