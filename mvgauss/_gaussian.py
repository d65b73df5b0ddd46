"""`MultiVariateGaussian`: a model of patches, its diagnostics, and the calls of other packages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from mvgauss import _arguments
from mvgauss._arguments import Array
from mvgauss._cov import cov
from mvgauss._decisions import Decisions
from mvgauss._factor import Factor
from mvgauss._saving import Saving
from mvgauss._shrinkage import Regularisation
from mvgauss._training import Training


class MultiVariateGaussian(Training, Decisions, Saving):
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
        ``float32`` or ``float64``, in which results and factors are kept; computing is in double
        precision. By default single for an embedding in half or single precision, else double.
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
    read_bytes : int, default 134217728
        About how many bytes of an array that can only be indexed (Zarr, HDF5) are read at once. Set it
        on the class or on a model.

    See Also
    --------
    anomaly_map : Upsample the distances to a map.
    cov, pinv, mahalanobis : The same computations on plain stacks.

    Notes
    -----
    This is the Gaussian of PaDiM [1]_, with shrinkage before the ridge:

    .. math:: \hat\Sigma = (1 - \rho) S + \rho\, (\operatorname{tr} S / C)\, I + \varepsilon I .

    The model stores for each patch its mean, its scatter (both merge, so they stand for any number of
    samples) and a factor. With few samples for the number of features, the scatter is stored as N - 1
    rows, or as the samples themselves if they are in single precision, and distances are computed from
    these and a small matrix, without any C x C matrix. With more samples it is a triangle, and the factor
    is W with :math:`W^T W = \hat\Sigma^{-1}`, so that a distance is
    :math:`\lVert W (x - \mu) \rVert`. Both forms give the same results.

    With a ridge or shrinkage no direction is dropped: the rank is C. Otherwise a variance counts as zero
    if it is at most C times the machine epsilon of the largest, or if rounding to the dtype of the
    embedding may have caused it.

    The intensities :math:`\rho` are those of the papers for the covariance of divisor n, as in
    scikit-learn, and are applied to the covariance with `ddof`. ``"oas"`` [2]_ (eq. 23) is
    scikit-learn's, which leaves out the paper's two terms 2/p and differs from it for few features.
    ``"ledoit_wolf"`` [3]_ needs :math:`\sum \lVert z \rVert^4`, :math:`z = x - \bar x`, which merges
    exactly if :math:`\sum \lVert z \rVert^2 z` is carried along: C + 1 numbers more per patch.

    Scoring is safe from several threads at once; fitting calls on one model wait for each other.

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
                _arguments.raise_error("embedding", wanted, f"{x.n_samples}")
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

    def fit_predict(
        self, embedding: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None
    ) -> Array:
        """Fit, and classify the fitted images as good or defective, as scikit-learn's detectors do.

        Fitted images lie closer to the Gaussians than new ones, so fewer are flagged; see `leave_one_out`.

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
        ValueError, TypeError
            As `fit`.

        Warns
        -----
        DefaultThresholdWarning
            As `decision_function`.
        """
        return self.fit(embedding, y, sample_weight).predict(embedding)

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
