"""`MultiVariateGaussian`: the small estimator that the functions feed.

Every method reads the one immutable `State` once and calls a function with it; training makes a new State
and stores it in one step.
"""

from __future__ import annotations

import copy
import inspect
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from mvgauss import _arguments
from mvgauss._arguments import Array, ConstantPatchWarning, FewSamplesWarning, PictureWarning, RidgeWarning
from mvgauss._model import card, decisions, files, fitting, scoring
from mvgauss._model.embedding import READ_BYTES, Embedding, OutOfRangeError, check_names, names_of_columns
from mvgauss._model.fitting import Walk
from mvgauss._model.leave_one_out import leave_one_out
from mvgauss._model.state import State, unpacked
from mvgauss._runtime import threads
from mvgauss._stats.conformal import checked_rate
from mvgauss._stats.cov import cov
from mvgauss._stats.shrinkage import Regularisation

#: About how many patches are looked at before all are.
_PATCHES_TRIED = 8


class MultiVariateGaussian:
    r"""One multivariate Gaussian for each patch of image embeddings.

    Axis 0 of an embedding is samples, `feature_axis` is features, and all other axes are the grid of
    patches: ``(N, C, H, W)``, ``(N, C, P)`` or ``(N, C)``; with ``feature_axis=-1`` also ViT tokens
    ``(N, P, C)`` and ``(N, H, W, C)``. Nothing in an array says which axis is which: with
    `n_features` given, a wrong layout is refused.

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
        Intensity of the shrinkage towards a multiple of the identity, or how to estimate it for each patch.
    ddof : float, default 1
        Delta degrees of freedom of the covariances.
    feature_axis : int, default 1
        Which axis of an embedding holds the features.
    dtype : dtype, optional
        ``float32`` or ``float64``, in which results, rows and factors are stored; moments and factors are
        computed in double precision. By default single for an embedding in half or single precision,
        else double.
    n_jobs : int, optional
        Number of threads, as in joblib: all CPUs that this process may use for None or -1, one less
        for -2; 1 for no threads.
    progress : bool, default False
        Whether to show a progress bar over blocks of patches. Needs tqdm.

    See Also
    --------
    anomaly_map : Upsample the distances to a map.
    cov, pinv, mahalanobis : The same computations on plain stacks.

    Notes
    -----
    This is the Gaussian of PaDiM [1]_, with shrinkage before the ridge:

    .. math:: \hat\Sigma = (1 - \rho) S + \rho\, (\operatorname{tr} S / C)\, I + \varepsilon I .

    The model stores for each patch its mean, its scatter (both merge) and a factor, W with
    :math:`W^T W = \hat\Sigma^{-1}`, so that a distance is :math:`\lVert W (x - \mu) \rVert`. With few
    samples for the number of features, it stores N - 1 rows of the scatter and a small matrix instead, and
    no C x C matrix. Both forms give the same results.

    With a ridge no direction is dropped: the rank is C. Without one, a covariance that is regular when its
    features are scaled to unit variance keeps every direction; otherwise a variance counts as zero if it is
    at most C times the machine epsilon of the largest, or if rounding to the dtype of the embedding may
    have caused it. Where nothing varies, shrinkage adds nothing, and `fit` warns.

    The intensities :math:`\rho` are those of the papers for the covariance of divisor n, as in
    scikit-learn, and are applied to the covariance with `ddof`. ``"oas"`` [2]_ (eq. 23) leaves out the
    paper's two terms 2/p, as scikit-learn does. ``"ledoit_wolf"`` [3]_ needs fourth moments: C + 1 numbers
    more per patch.

    Scoring is safe from several threads at once; fitting calls on one model wait for each other. A method
    raises `ValueError` for an embedding of another shape or with numbers that are not finite, and before the
    model is fitted, and `TypeError` for an argument of the wrong kind; the model stays as it was.

    In a direction of zero variance, the ridge multiplies the square of a deviation by :math:`1/\varepsilon`,
    and the pseudo-inverse (``reg_covar=0``) ignores it. To find defects, keep the ridge.

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

    _cov = staticmethod(cov)
    _state: State | None = None
    _metadata: dict[str, Any] = {}  # noqa: RUF012, never changed in place

    #: About how many bytes of an array that can only be indexed (Zarr, HDF5) are read at once. Set it on
    #: the class or on a model.
    read_bytes: int = READ_BYTES

    @_arguments.names_nearest_parameter
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

    # -- fitting

    def fit(self, embedding: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None) -> Self:
        """Fit a Gaussian to each patch, replacing any earlier fit.

        Parameters
        ----------
        embedding : array_like, shape (N, C, *grid)
            Embeddings of N good images; C is at `feature_axis`. Arrays that can only be indexed, such as
            Zarr arrays and HDF5 datasets, are read in runs of about `read_bytes`.
        y : object, optional
            Ignored; there for scikit-learn's pipelines.
        sample_weight : array_like, shape (N,), optional
            How many times each image counts: 2 is the same as the image twice. The sum has to be
            more than `ddof`.

        Returns
        -------
        MultiVariateGaussian
            The model itself. It unpacks: ``mean, inv_covariance = model.fit(embedding)``.

        Raises
        ------
        ValueError
            If the embedding is not finite (the message has the index of the first NaN), or has no more
            samples than `ddof`; or if a parameter is out of range.

        Warns
        -----
        FewSamplesWarning
            If there are no more samples than features, and neither ridge nor shrinkage. Of an array that is
            read part by part, this and the next two come at the first use.
        RidgeWarning
            If `reg_covar` is larger than the mean variance of the features at more than half of the patches
            where they vary.
        ConstantPatchWarning
            If there is shrinkage without a ridge, and patches where nothing varies.
        PictureWarning
            If the embedding looks like pictures: uint8 or uint16 of three axes, or of more with 1, 3 or 4
            channels on axis 1 or the last; floats ``(N, H, W, 3)`` with H and W of at least 16.
        """
        with self._training_lock:
            self._state = self._trained(None, embedding, sample_weight)
        return self

    def partial_fit(
        self, embedding: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        r"""Fit more samples.

        However the samples are split and ordered, the model is that of `fit` on all of them, up to
        rounding. After `fit`, it adds to the fitted samples. The factors are computed at the first use,
        which warns as `fit` does. A limit that was set stays, and the next decision warns that it belongs
        to fewer samples.

        Parameters
        ----------
        embedding : array_like, shape (N, C, *grid)
            Embeddings of N more images, of the sizes seen before.
        y : object, optional
            Ignored; there for scikit-learn's pipelines.
        sample_weight : array_like, shape (N,), optional
            How many times each image counts, as in `fit`.

        Returns
        -------
        MultiVariateGaussian
            The model itself.

        Raises
        ------
        ValueError
            If the sizes differ from those seen before, or if the model was saved without its moments.

        Notes
        -----
        The error of an entry of the scatter M stays below a small multiple of
        :math:`N \epsilon \sqrt{M_{ii} M_{jj}}`, as in `Moments`. Each merge rounds the mean too, which for
        k parts with means of size m adds up to :math:`k\, \epsilon\, m \sqrt{M / N}`: negligible
        for batches, and noticeable only for data far from zero that come one sample at a time.
        """
        with self._training_lock:
            before = self._state
            self._replace(before, self._trained(before, embedding, sample_weight, part_of_a_stream=True))
        return self

    def merge(self, other: MultiVariateGaussian) -> Self:
        """Add the samples of another model, as if they had been fitted here.

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
            If one of the models has no moments, or they differ in sizes.
        """
        if not isinstance(other, MultiVariateGaussian):
            _arguments.raise_error("other", "a MultiVariateGaussian", type(other).__name__, TypeError)
        if other._state is None:
            raise _arguments.not_fitted("other: expected a fitted model, got one that is not fitted")
        theirs = other._state
        with self._training_lock:
            self._state = self._merged(self._state, theirs)
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
        state = self._scorable()  # of which both are
        yield scoring.mean(state)
        yield scoring.inverse(state, self._walk("inv_covariance"))

    # -- the parameters of the Gaussians

    @property
    def mean(self) -> Array:
        """Mean of each patch, ``(C, P)``; P counts the grid in row-major order."""
        return scoring.mean(self._fitted())

    @property
    def covariance(self) -> Array:
        """Regularised covariances, ``(P, C, C)``; computed anew at each access, see `select`."""
        return scoring.covariance(self._fitted(), self._walk("covariance"))

    @property
    def inv_covariance(self) -> Array:
        """Their (pseudo-)inverses, exactly symmetric, ``(P, C, C)``; computed anew at each access."""
        return scoring.inverse(self._scorable(), self._walk("inv_covariance"))

    @property
    def rank(self) -> Array:
        """Ranks of the regularised covariances, ``(P,)``."""
        return self._scorable().required_precision().rank.copy()

    def select(self, patches: Any) -> Self:
        """Model of a part of the grid.

        Parameters
        ----------
        patches : index
            Whatever indexes an array of the shape of the grid: numbers, slices, a boolean mask. Where the
            shape of the grid is unknown (`from_parameters`) it is (P,).

        Returns
        -------
        MultiVariateGaussian
            A model with these patches alone, which shares its numbers with this one. A limit is that of
            this model; leave-one-out distances are those of patches, not of images.

        Raises
        ------
        IndexError
            If the grid has no such patches.

        Examples
        --------
        The covariance of one patch, without those of all others:

        >>> import numpy as np
        >>> from mvgauss import MultiVariateGaussian
        >>> embedding = np.array([0.0, 2.0, 4.0]).reshape(3, 1, 1, 1) * np.ones((3, 1, 2, 5))
        >>> model = MultiVariateGaussian(reg_covar=0).fit(embedding)
        >>> model.select((1, 3)).covariance
        array([[[4.]]])
        """
        new = self.__sklearn_clone__().set_params(n_patches=None)
        new._state = self._fitted().select(patches)
        return new

    @property
    def nbytes(self) -> int:
        """Bytes of the fitted model: means, moments, and factors once they are computed."""
        return self._fitted().nbytes

    @property
    def n_samples_seen_(self) -> int:
        """Number of samples that were fitted, in all calls together; 0 for parameters alone."""
        return self._fitted().n_samples

    @property
    def n_features_in_(self) -> int:
        """Number of features of the fitted embeddings."""
        return self._fitted().n_features

    @property
    def feature_names_in_(self) -> Array:
        """Names of the columns of the fitted data frames, ``(C,)``; missing where those had none."""
        names = self._fitted().feature_names
        if names is None:
            raise AttributeError("feature_names_in_: this model was fitted without feature names")
        return np.array(names, dtype=object)

    def diagnostics(self) -> dict[str, Array]:
        r"""Describe the fit of each patch, as maps.

        Returns
        -------
        dict of ndarray, each of the grid's shape
            ``rank``; ``condition`` number of the regularised covariance (inf if singular);
            ``effective_samples``, Kish's :math:`(\sum w)^2 / \sum w^2`; ``shrinkage`` intensity.
        """
        state = self._scorable()
        return scoring.diagnostics(state, self._walk("diagnostics"))

    # -- scores

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
        """
        squared = _arguments.flag("squared", squared)
        state = self._scorable()
        x = self._embedding(embedding, state)
        return scoring.mahalanobis(state, x, self._walk("mahalanobis"), squared=squared)

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

        Notes
        -----
        :math:`-\tfrac12 (r \log 2\pi + \log\operatorname{pdet} \hat\Sigma + d^2)` with the rank r, as
        ``scipy.stats.multivariate_normal(allow_singular=True)``. A patch is off the support when the
        part of :math:`x - \mu` outside is longer than :math:`\sqrt{C \epsilon}` times the larger of
        :math:`\lVert x - \mu \rVert` and the largest standard deviation, with :math:`\epsilon` of the
        dtype of the model, and than rounding the samples to their dtype may have made it.
        """
        state = self._scorable()
        return scoring.log_density(state, self._embedding(embedding, state), self._walk("score_samples"))

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
        """
        return float(self.score_samples(embedding).mean(dtype=np.float64))

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

        Notes
        -----
        :math:`c_j = (x - \mu)_j [\hat\Sigma^{-1} (x - \mu)]_j`; see Mason, Tracy & Young,
        "Decomposition of T² for multivariate control chart interpretation", J. Quality Technology
        27(2), 1995, on how to read such parts.
        """
        state = self._scorable()
        return scoring.contributions(state, self._embedding(embedding, state), self._walk("contributions"))

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
        ValueError
            If the model has no law before `calibrate`.

        Notes
        -----
        ``"hotelling"``
            :math:`d^2 \sim \frac{p (n+1)(n-1)}{n (n-p)} F(p, n-p)`, exact for Gaussian features: of
            n samples of equal weight, more than features, without ridge and shrinkage. p is the rank.
        ``"hotelling-bound"``
            The same of :math:`(1 - \rho)\, d^2`, for such samples with a ridge or shrinkage of intensity
            :math:`\rho`. As :math:`\hat\Sigma \succeq (1 - \rho) S`, p-values are at least the exact
            ones: of good patches they are never smaller than uniform ones.
        ``"leave-one-out"``
            :math:`(1 + \#\{\text{good} \ge d\}) / (n + 1)` among the leave-one-out distances of
            the fitted images at the same patch, after `calibrate`: of every model. It assumes no
            distribution; each leave-one-out distance comes from a model of one sample less. The smallest
            value is 1 / (n + 1).
        ``"chi2"``
            :math:`\chi^2` with as many degrees of freedom as the rank, for given parameters
            (`from_parameters`): exact if they are those of the Gaussian.

        Other models, of no more samples than features or of samples of unequal weight, have none of these
        laws before they are calibrated.
        """
        state = self._scorable()
        return decisions.p_value(state, self._embedding(embedding, state), self._walk("p_value"))

    @property
    def p_value_law(self) -> str:
        """Law of `p_value`: ``"hotelling"``, ``"hotelling-bound"``, ``"leave-one-out"`` or ``"chi2"``.

        A model that has none of them raises, and says which line calibrates it.
        """
        return decisions.required_law(self._fitted())

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

        Notes
        -----
        With the deviation v from the mean of all n samples, the covariance without the sample is
        :math:`A - c\, v v^T` with :math:`A = \frac{n-1}{n-2} S + \varepsilon I` and
        :math:`c = \frac{n}{(n-1)(n-2)}` (for ``ddof=1``; the other cases alike), so that by Sherman &
        Morrison, with :math:`q = v^T A^{-1} v`,

        .. math:: d^2 = \left(\frac{n}{n-1}\right)^2 \frac{q}{1 - c q} .

        A patch is refitted only where this loses too many digits. The intensity and the target of shrinkage
        are those of all samples, a difference of order 1/n. Each weight takes a factor of its own.
        """
        state, x, weights = self._fitted_samples(embedding, sample_weight)
        return leave_one_out(state, x, weights, self._walk("leave_one_out"))

    # -- decisions

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
            The model itself. It has N numbers more for each patch, until new samples come.

        Raises
        ------
        ValueError
            As `leave_one_out`, or if a model without ridge and shrinkage has at most C + 1 samples: a
            pseudo-inverse that loses an image loses a direction.
        """
        with self._training_lock:
            state, x, weights = self._fitted_samples(embedding, sample_weight)
            self._replace(state, decisions.calibrated(state, x, weights, self._walk("calibrate")))
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
            images are not what `source` says (held-out ones as many as were fitted, with their mean, are
            the fitted ones), or as `calibrate`.

        Notes
        -----
        The limit is that of `conformal_threshold` for the images' largest distances, with its guarantee where
        they are held out. The training images are scored by `leave_one_out`, each by a slightly different
        model from the one in use: the rate is then approximate, without a guarantee, but all images are
        used. A calibrated model has these distances already.
        """
        rate = checked_rate(false_positive_rate)
        if source not in ("held-out", "training"):
            _arguments.raise_error("source", "'held-out' or 'training'", _arguments.briefly(source))
        if source == "held-out" and sample_weight is not None:
            _arguments.raise_error("sample_weight", "None for held-out images", "weights")
        walk = self._walk("threshold")
        with self._training_lock:
            self._raise_if_not_fitted()
            if source == "training":
                state, x, weights = self._fitted_samples(embedding, sample_weight)
                limit = decisions.limit_of_training(state, x, weights, rate, walk)
            else:
                state = self._scorable()
                limit = decisions.limit_of_held_out(state, self._embedding(embedding, state), rate, walk)
            self._replace(state, decisions.with_limit(state, limit))
        return limit

    @property
    def threshold_(self) -> float:
        """Limit of `predict`: that of `threshold`, one that was assigned, or else the default.

        The default is the distance that some patch of a good image exceeds with a probability of at most
        5 %, by Bonferroni over the patches, if embeddings are Gaussian: by Hotelling's law where it is
        exact or a bound; of a calibrated model, the 5 % limit of its leave-one-out distances; of
        parameters alone, by chi-squared. A model of no more samples than features has none, and raises.
        """
        return decisions.limit_of(self._scorable())

    @threshold_.setter
    def threshold_(self, value: float) -> None:
        limit = _arguments.number("threshold_", value, low=0)
        with self._training_lock:
            self._raise_if_not_fitted()
            self._state = decisions.with_limit(self._fitted(), limit)

    @property
    def offset_(self) -> Any:
        """Log density at the distance `threshold_`, of the shape of the grid; ``(P,)`` if that is unknown."""
        return decisions.offset(self._scorable())[()]

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
            If no limit was set, and no law gives one.

        Warns
        -----
        DefaultThresholdWarning
            If no limit was set, or if it was set for fewer samples than are fitted now.

        Notes
        -----
        :math:`(l^2 - d^2) / 2` with the limit :math:`l`, `threshold_`, and the largest distance :math:`d`:
        the smallest of `score_samples` - `offset_` over the patches, as scikit-learn's outlier detectors
        have it; what a singular covariance leaves out does not count.
        """
        self._raise_if_not_fitted()
        state = self._scorable()
        return decisions.decision_function(state, self._embedding(embedding, state), self._walk("predict"))

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

        See Also
        --------
        decision_function : Raises and warns where there is no limit, or an old one.
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
            If the model was not calibrated.

        See Also
        --------
        calibrate : Has to be called first, with the fitted images.
        conformal_p_value : The same of any score, from held-out images.

        Notes
        -----
        The rank among the largest leave-one-out distances of the fitted images. Each of them belongs to a
        model of one image less: an approximation, without the guarantee of held-out images.
        """
        state = self._scorable()
        return decisions.image_p_value(state, self._embedding(embedding, state), self._walk("image_p_value"))

    def fit_predict(
        self, embedding: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None
    ) -> Array:
        """Fit, and classify the fitted images as good or defective, as scikit-learn's detectors do.

        Fitted images lie closer to the Gaussians, which were estimated from them, than new ones, so fewer are
        flagged; see `leave_one_out`.

        Parameters
        ----------
        embedding : array_like, shape (N, C, *grid)
            As in `fit`.
        y : object, optional
            Ignored; there for scikit-learn's pipelines.
        sample_weight : array_like, shape (N,), optional
            As in `fit`.

        Returns
        -------
        ndarray of int, shape (N,)
            As from `predict`.
        """
        return self.fit(embedding, y, sample_weight).predict(embedding)

    # -- files

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        resumable: bool = True,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Write the model to one `.npz` file, without pickle.

        A failure leaves an existing file as it was: the new one is moved into its place when it is whole.

        Parameters
        ----------
        path : path-like
            Where to write; no suffix is added.
        resumable : bool, default True
            Whether to save the moments, with which a loaded model can be fitted further, bit for bit as
            if it had not been interrupted. Without them the file and the loaded model are smaller, and
            the model can only score.
        metadata : dict, optional
            What users of the model need to know: the network, its layers, the channels, the
            preprocessing. Plain values (None, bool, int, finite float, str, lists and dicts of these)
            under string keys, at most 48 kB of JSON. By default that of this model.

        Raises
        ------
        ValueError, TypeError
            If a parameter is wrong, or `metadata` too large or not plain; the message names the key.
        OSError
            If the file cannot be written.
        """
        self._raise_if_params_are_wrong()  # no file that `load` refuses
        resumable = _arguments.flag("resumable", resumable)
        state = self._fitted() if resumable else self._scorable().without_moments()
        dtype = None if self.dtype is None else np.dtype(self.dtype).name
        header, arrays = state.packed()
        header["metadata"] = self.metadata if metadata is None else files.plain_metadata(metadata)
        header["params"] = {**self.get_params(), "dtype": dtype}
        files.write(path, header, arrays)

    @property
    def metadata(self) -> dict[str, Any]:
        """Metadata that were saved with the model, as a new dict; empty for a model that was not loaded."""
        return copy.deepcopy(self._metadata)

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
        header, arrays = files.read(path)
        try:
            self = cls(**header.pop("params"))
            self._raise_if_params_are_wrong()
            self._metadata = files.plain_metadata(header.pop("metadata"))
            self._state = unpacked(header, arrays)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise ValueError(f"path: expected the parts of a saved model, got others: {error}") from error
        return self

    @classmethod
    def from_parameters(
        cls,
        mean: ArrayLike,
        inv_covariance: ArrayLike,
        *,
        rank: ArrayLike | None = None,
        feature_axis: int = 1,
        dtype: DTypeLike | None = None,
    ) -> Self:
        """Make a model from a mean and inverse covariances, as anomalib stores them.

        Parameters
        ----------
        mean : array_like, shape (C, P)
            Mean of each patch.
        inv_covariance : array_like, shape (P, C, C)
            Symmetric positive semi-definite up to rounding. It is taken at its word: a small eigenvalue
            is a direction of large variance.
        rank : array_like of int, shape () or (P,), optional
            How many directions the inverse covariances have, where they are pseudo-inverses: for `rank`,
            densities and p-values. Distances do not depend on it.
        feature_axis : int, default 1
            Which axis of an embedding will hold the features.
        dtype : dtype, optional
            In which to store the factors; by default that of the parameters, at least single.

        Returns
        -------
        MultiVariateGaussian
            A model that scores embeddings with C features and a grid of any shape with P patches.

        Raises
        ------
        ValueError
            If a matrix is not symmetric positive semi-definite.
        """
        mu = _arguments.array("mean", mean)
        p = _arguments.array("inv_covariance", inv_covariance)
        if mu.ndim != 2 or 0 in mu.shape:
            _arguments.raise_error("mean", "shape (C, P)", f"shape {mu.shape}")
        c, n_patches = mu.shape
        wanted = (n_patches, c, c)
        if p.shape != wanted:
            hint = {
                (c, n_patches, n_patches): "mean is (P, C): give mean.T",
                (c, c, n_patches): "this is (C, C, P): give np.moveaxis(inv_covariance, -1, 0)",
                (n_patches, n_patches, c): "mean is (P, C) and this (C, C, P): give mean.T and "
                "np.moveaxis(inv_covariance, -1, 0)",
            }.get(p.shape, "")
            _arguments.raise_error(
                "inv_covariance", f"shape {wanted} as mean is {mu.shape}", f"shape {p.shape}", hint=hint
            )
        _arguments.finite("mean", mu)
        ranks = None if rank is None else _arguments.ranks("rank", rank, n_patches, c)
        self = cls().set_params(feature_axis=feature_axis, dtype=dtype)
        self._state = fitting.from_inverse(mu.T, p, ranks, self._result_dtype(np.result_type(mu, p)))
        return self

    # -- as scikit-learn and notebooks see it

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
                _arguments.raise_error("set_params", f"one of {', '.join(known)}", name)
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def __sklearn_tags__(self) -> Any:
        """Tell scikit-learn, which alone asks, what kind of estimator this is."""
        from sklearn.utils import InputTags, Tags, TargetTags

        return Tags(
            estimator_type="outlier_detector",
            target_tags=TargetTags(required=False),
            input_tags=InputTags(two_d_array=True, three_d_array=True),
            array_api_support=False,
        )

    def __sklearn_is_fitted__(self) -> bool:
        """Tell scikit-learn whether `fit` was called."""
        return self._state is not None

    def __sklearn_clone__(self) -> Self:
        """Return an unfitted model with the same parameters and `read_bytes`, which is not one of them."""
        new = type(self)(**copy.deepcopy(self.get_params()))
        if "read_bytes" in vars(self):
            new.read_bytes = self.read_bytes
        return new

    def __setattr__(self, name: str, value: object) -> None:
        """Refuse to replace the method that sets a limit by a limit."""
        if name == "threshold":
            hint = "a limit that is known is assigned to threshold_"
            wanted = "a call, threshold(good_images, false_positive_rate)"
            _arguments.raise_error(name, wanted, _arguments.briefly(value), AttributeError, hint)
        super().__setattr__(name, value)

    def __repr__(self) -> str:
        return card.text(self)

    def _repr_html_(self) -> str:
        """Return what a notebook shows; it factors nothing."""
        return card.html(self, self._state)

    def __getstate__(self) -> dict[str, Any]:
        """Return what copies and pickled models have: all but the lock, as each gets one of its own."""
        return {name: value for name, value in vars(self).items() if name != "_lock"}

    # -- the state

    @property
    def _training_lock(self) -> threading.RLock:
        """One thread at a time changes a model."""
        lock: threading.RLock = vars(self).setdefault("_lock", threading.RLock())
        return lock

    def _fitted(self) -> State:
        """Return what is fitted, or the identity of the sizes given to the constructor."""
        if self._state is not None:
            return self._state
        if self.n_features is None or self.n_patches is None:
            self._raise_if_not_fitted()
        c = _arguments.integer("n_features", self.n_features, low=1)
        p = _arguments.integer("n_patches", self.n_patches, low=1)
        return fitting.identity(c, p, self._result_dtype(np.dtype(np.float32)))

    def _scorable(self) -> State:
        """Return the state with its precision, which a stream makes when it is first needed."""
        state = self._fitted()
        if state.precision is not None:
            return state
        with self._training_lock:  # or a stream that went on meanwhile would be forgotten
            state = self._fitted()
            if state.precision is None:
                state = fitting.with_precision(state, self._walk("factors"))
                _warn_of_fit(state)
                self._state = state
        return state

    def _replace(self, before: State | None, after: State) -> None:
        """Store a state that was made from the one before."""
        if self._state is not before:
            raise RuntimeError(
                "this model was changed by a call from within this one: an embedding that is read part by "
                "part may not train the model that reads it"
            )
        self._state = after

    def _raise_if_not_fitted(self) -> None:
        """Refuse to decide with the identity that a model has before it is fitted."""
        if self._state is None:
            raise _arguments.not_fitted(
                "this MultiVariateGaussian is not fitted yet; call fit(embedding) first"
            )

    def _trained(
        self,
        before: State | None,
        embedding: ArrayLike,
        sample_weight: ArrayLike | None,
        part_of_a_stream: bool = False,
    ) -> State:
        """Return the state of the samples of `before` and of an embedding."""
        regularisation = self._regularisation()
        x = self._embedding(embedding, before)
        if before is None:
            _warn_of_pictures(x)
            blank = State.unfitted(x.grid, x.n_features, self._result_dtype(x.dtype), regularisation)
            before = replace(blank, feature_names=names_of_columns(embedding))
        else:
            before.required_moments()
            before = before.with_regularisation(regularisation)
        weights = None
        if sample_weight is not None:
            # a whole part of a stream may have weight zero; a fit may not
            weights = _arguments.weights(
                "sample_weight", sample_weight, (), x.n_samples, all_zero=part_of_a_stream
            )
        walk = self._walk("fit")
        state = fitting.fit(x, weights, before, with_precision=not part_of_a_stream, walk=walk)
        if not part_of_a_stream:
            state.raise_if_too_few("embedding")
            if state.precision is not None:
                _warn_of_fit(state)
        return state

    def _merged(self, mine: State | None, theirs: State) -> State:
        """Return the state of both samples, under the parameters of this model."""
        theirs.required_moments()
        regularisation = self._regularisation()
        expected: dict[str, Any] = {"n_features": self.n_features, "n_patches": self.n_patches}
        if mine is not None:
            check_names(mine.feature_names, theirs.feature_names, type(self).__name__)
            mine.required_moments()
            expected = {"n_features": mine.n_features, "grid": mine.grid}
        for name, wanted in expected.items():
            got = getattr(theirs, name)
            if wanted is not None and wanted != got:
                _arguments.raise_error("other", f"{name} = {wanted}", f"{got}")
        if mine is None:
            return fitting.adopted(theirs, regularisation, self._result_dtype(theirs.dtype))
        one, other = (state.with_regularisation(regularisation) for state in (mine, theirs))
        try:
            return fitting.merge(one, other, self._walk("merge"))
        except OutOfRangeError:
            _arguments.raise_error("other", "moments that double precision can hold together", "larger ones")

    def _fitted_samples(
        self, embedding: ArrayLike, sample_weight: ArrayLike | None
    ) -> tuple[State, Embedding, Array | None]:
        """Return the state, the embedding and the weights; refuse other numbers of them than were fitted."""
        state = self._scorable()
        state.required_moments()
        x = self._embedding(embedding, state)
        weights = None
        if sample_weight is not None:
            weights = _arguments.weights("sample_weight", sample_weight, (), x.n_samples)
        elif state.weighted:
            _arguments.raise_error("sample_weight", "the weights that the model was fitted with", "None")
        total = float(x.n_samples if weights is None else weights.sum())
        if x.n_samples != state.n_samples or not np.isclose(total, state.sum_weights, rtol=1e-9, atol=0):
            _arguments.raise_error(
                "embedding",
                f"the {state.n_samples} samples that were fitted, of weight {state.sum_weights:g}",
                f"{x.n_samples} of weight {total:g}",
            )
        return state, x, weights

    def _embedding(self, value: ArrayLike, state: State | None) -> Embedding:
        """Return an embedding of the sizes seen before, or of those given to the constructor."""
        if state is not None:
            check_names(state.feature_names, names_of_columns(value), type(self).__name__)
        read_bytes = _arguments.integer("read_bytes", self.read_bytes, low=1)
        x = Embedding(value, self.feature_axis, read_bytes=read_bytes)
        if state is None:
            x.raise_if_other(self.n_features, self.n_patches)
        else:
            x.raise_if_other(state.n_features, state.n_patches, state.grid)
        return x

    # -- the parameters as they are now

    def _regularisation(self) -> Regularisation:
        return Regularisation.checked(self.ddof, self.reg_covar, self.shrinkage)

    def _result_dtype(self, given: np.dtype[Any]) -> np.dtype[Any]:
        """Return the dtype of results for data of a dtype."""
        if self.dtype is None:
            return _arguments.stored(given)
        dtype = _arguments.inexact("dtype", self.dtype, kinds="f")
        if dtype.itemsize not in (4, 8):
            _arguments.raise_error("dtype", "float32 or float64", str(dtype))
        return dtype

    def _walk(self, task: str) -> Walk:
        return Walk(self.n_jobs, task if _arguments.flag("progress", self.progress) else None)

    def _raise_if_params_are_wrong(self) -> None:
        self._regularisation()
        self._result_dtype(np.dtype(np.float64))
        self._walk("")
        threads.cpu_count(self.n_jobs)
        _arguments.integer("feature_axis", self.feature_axis)
        for name in ("n_features", "n_patches"):
            if (value := getattr(self, name)) is not None:
                _arguments.integer(name, value, low=1)


def _warn_of_pictures(x: Embedding) -> None:
    if (layout := x.picture_layout) is not None:
        hint = "" if x.dtype.kind == "f" else " (integers that are such an output: convert them to float32)"
        _arguments.warn(
            f"embedding: {x.dtype} numbers of shape {x.shape} look like pictures of layout {layout}; fit "
            f"their embeddings, the output of a network{hint}",
            PictureWarning,
        )


def _warn_of_ridge(state: State) -> None:
    """Warn of a ridge above the mean variance of the features, at most of the patches where they vary."""
    ridge = state.regularisation.reg_covar
    # a few patches first, as all can take a tenth of a fit; an odd step does not stay in a column of the grid
    few = state.required_moments()[:: max(1, state.n_patches // _PATCHES_TRIED) | 1]
    if (few.trace() >= ridge * state.sum_weights * state.n_features).all():
        return
    variance = state.variance().mean(axis=1)
    variance = variance[variance > 0]
    below = np.count_nonzero(variance < ridge)
    if 2 * below <= len(variance):
        return
    typical = np.median(variance)
    _arguments.warn(
        f"at {below:,} of {state.n_patches:,} patches reg_covar={ridge:g} is larger than the mean variance "
        f"of the features, {typical:.2g} in the median: distances are then small, those of defects too; set "
        f"reg_covar={typical / 100:.1g}, a hundredth of it, or reg_covar=0 with shrinkage='oas', or scale "
        "the features",
        RidgeWarning,
    )


def _warn_of_fit(state: State) -> None:
    """Warn of few samples without regularisation, of a large ridge, and where shrinkage adds nothing."""
    if state.regularisation.reg_covar:
        _warn_of_ridge(state)
    n, c, regularisation = state.n_samples, state.n_features, state.regularisation
    if n <= c and not regularisation.regularises and state.calibration is None:
        _arguments.warn(
            f"{n} samples of {c} features, with neither ridge nor shrinkage: new good images lie much "
            "farther away than the fitted ones (leave_one_out(embedding) shows how far); set reg_covar=0.01 "
            "or shrinkage='oas', and use fewer features if you can",
            FewSamplesWarning,
        )
    if regularisation.shrinkage and not regularisation.reg_covar:
        constant = np.count_nonzero(state.required_precision().rank < c)
        if constant:
            _arguments.warn(
                f"at {constant:,} of {state.n_patches:,} patches nothing varies that shrinkage could be "
                "estimated from: deviations in the directions without variance count nothing there, and no "
                "defect is found in them; set reg_covar, such as 0.01",
                ConstantPatchWarning,
            )
