"""`MultiVariateGaussian`: fits, streams, merges, saves and loads a model of patches."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from mvgauss import _checks, _fitting, _names
from mvgauss._checks import Array
from mvgauss._cov import cov
from mvgauss._decisions import Decisions
from mvgauss._fitted import Fitted, OutOfRangeError, TooSmallError
from mvgauss._params import not_fitted
from mvgauss._saving import Saving
from mvgauss._warnings import FewSamplesWarning, PictureWarning

__all__ = ["MultiVariateGaussian"]


class MultiVariateGaussian(Decisions, Saving):
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

        Warns
        -----
        FewSamplesWarning
            If there are no more samples than features, and no shrinkage.
        PictureWarning
            If the embedding looks like pictures: uint8, with 3 or 4 on the last axis.
        """
        with self._training():
            names = _names.of(embedding)
            fitted = self._updated(None, embedding, sample_weight, factor=True)
            fitted.raise_if_too_few()
            self._fitted, self._feature_names = fitted, names
        n, c = fitted.n_samples, fitted.n_features
        if n <= c and not fitted.regularisation.shrinkage:
            warnings.warn(
                f"{n} samples of {c} features, without shrinkage: new good images lie much farther away "
                "than the fitted ones (leave_one_out(embedding) shows how far); shrinkage='oas' or "
                "'ledoit_wolf' helps, and so do fewer features",
                FewSamplesWarning,
                stacklevel=_checks.outside(),
            )
        return self

    def fit_predict(
        self, embedding: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None
    ) -> Array:
        """Fit, and tell which of the fitted images look defective, as scikit-learn's detectors do.

        Fitted images lie closer to the Gaussians than new ones, so that fewer are flagged; see
        `leave_one_out`.

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

        Raises
        ------
        ValueError
            As `fit`.
        TypeError
            As `fit`.

        Warns
        -----
        DefaultThresholdWarning
            As `decision_function`.
        """
        return self.fit(embedding, y, sample_weight).predict(embedding)

    def partial_fit(
        self, embedding: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        r"""Go on fitting with more samples.

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

        Notes
        -----
        The error of an entry of the scatter M stays below a small multiple of
        :math:`N \epsilon \sqrt{M_{ii} M_{jj}}`, as in `Moments`. Each merge rounds the mean too, which for
        k parts with means of size m adds up to :math:`k\, \epsilon\, m \sqrt{M / N}`: next to nothing
        for batches, and felt only where data far from zero come one sample at a time.
        """
        with self._training():
            names = _names.of(embedding) if self._fitted is None else self._feature_names
            self._fitted = self._updated(self._fitted, embedding, sample_weight)
            self._feature_names = names
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
            raise not_fitted("other: expected a fitted model, got one that is not fitted")
        theirs.require_moments()
        with self._training():
            how = self._regularisation()
            mine = self._fitted
            if mine is None:
                for what, wanted in (("n_features", self.n_features), ("n_patches", self.n_patches)):
                    if wanted is not None and wanted != getattr(theirs, what):
                        _checks.refuse("other", f"{what} = {wanted}", f"{getattr(theirs, what)}")
                self._fitted = replace(theirs.regularised(how), dtype=self._kept(theirs.dtype), factor=None)
                self._feature_names = other._feature_names
                return self
            _names.check(self._feature_names, other._feature_names, type(self).__name__)
            mine.require_moments()
            for what in ("n_features", "grid"):
                if getattr(mine, what) != getattr(theirs, what):
                    _checks.refuse("other", f"{what} = {getattr(mine, what)}", f"{getattr(theirs, what)}")
            try:
                self._fitted = _fitting.merge(
                    mine.regularised(how), theirs.regularised(how), self._walk("merge")
                )
            except OutOfRangeError:
                _checks.refuse("other", "moments that double precision can hold together", "larger ones")
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

    def _updated(
        self,
        base: Fitted | None,
        embedding: ArrayLike,
        sample_weight: ArrayLike | None,
        factor: bool = False,
    ) -> Fitted:
        """Return the model of `base` and more samples, with its factors where they come at no cost."""
        how = self._regularisation()
        if base is not None:
            base.require_moments()
        x = self._embedding(embedding, base)
        if base is None and x.pictures:
            warnings.warn(
                f"embedding: whole numbers of shape {x.shape} look like pictures; fit what a network makes "
                "of them",
                PictureWarning,
                stacklevel=_checks.outside(),
            )
        w = None
        if sample_weight is not None:
            # a whole part of a stream may have weight zero; a fit may not
            w = _checks.weights("sample_weight", sample_weight, (), x.n_samples, some=factor)
        kept = self._kept(x.dtype) if base is None else base.dtype
        if base is not None:
            base = base.regularised(how)
        for part, stack in x.parts():
            try:
                base = _fitting.fit(
                    stack,
                    None if w is None else w[part],
                    dtype=kept,
                    how=how,
                    base=base,
                    factor=factor and stack.shape[-2] == x.n_samples,
                    walk=self._walk("fit"),
                )
            except TooSmallError:
                x.refuse_not_finite(part, np.dtype(float), small=True)
            except OutOfRangeError:
                x.refuse_not_finite(part, np.dtype(float))
        assert base is not None
        return base
