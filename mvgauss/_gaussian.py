"""`MultiVariateGaussian`: composes the other rooms, owns the axes of a picture."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from mvgauss import _blocks, _checks, _files, _moments, _whitening
from mvgauss._checks import Array
from mvgauss._fitted import Fitted
from mvgauss._moments import cov
from mvgauss._whitening import Whitening

__all__ = ["MultiVariateGaussian"]

#: Neighbouring patches share cache lines of a channel-first embedding: fewer would waste reads.
_LEAST_PATCHES = 32


class NotFittedError(ValueError, AttributeError):
    """The model has no parameters yet."""


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
    ddof : float, default 1
        Delta degrees of freedom of the covariances.
    feature_axis : int, default 1
        Which axis of an embedding holds the features.
    dtype : dtype, optional
        ``float32`` or ``float64``, to compute and to keep results in. By default computing is in
        double precision, and results are kept in single for an embedding in half or single
        precision, else in double.

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
    This is the Gaussian of PaDiM [1]_, :math:`\hat\Sigma = S + \varepsilon I`. What is kept for each
    patch is a factor W with :math:`W^T W = \hat\Sigma^{-1}`, and the moments; a distance is
    :math:`\lVert W (x - \mu) \rVert`.

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
        ddof: float = 1,
        feature_axis: int = 1,
        dtype: DTypeLike | None = None,
    ) -> None:
        self.n_features = n_features
        self.n_patches = n_patches
        self.reg_covar = reg_covar
        self.ddof = ddof
        self.feature_axis = feature_axis
        self.dtype = dtype

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
        given, x = self._patches_of("embedding", embedding)
        ddof = _checks.number("ddof", self.ddof)
        reg_covar = _checks.number("reg_covar", self.reg_covar, low=0)
        working, stored = self._dtypes(given.dtype)
        *grid, n, c = x.shape
        w = []
        if sample_weight is not None:
            a = _checks.weights("sample_weight", sample_weight, (), n)
            w = [a, a * a]
        p = int(np.prod(grid))
        mean, scatter = np.empty((p, c), working), np.empty((p, c * (c + 1) // 2), working)
        total = float(w[0].sum()) if w else float(n)
        squared = float(w[1].sum()) if w else float(n)
        if total - ddof * squared / total <= 0 if total else True:
            _checks.refuse(
                "embedding",
                f"more samples than ddof = {ddof:g} to estimate a covariance",
                f"{n} sample{'s'[: n != 1]}"
                + (f", worth {total**2 / squared:g} after sample_weight" if w else ""),
            )

        def kernel(x: Array, *w: Array) -> tuple[Array, Array]:
            with np.errstate(all="ignore"):
                part = _moments.of_block(x, *w, dtype=working)
            if not np.isfinite(np.diagonal(part.scatter, axis1=1, axis2=2)).all():
                raise FloatingPointError
            return part.mean, _moments.pack(part.scatter)

        try:
            _blocks.over_stack(
                kernel,
                tuple(grid),
                [(x, 2), *((v, 1) for v in w)],
                [mean.reshape(*grid, c), scatter.reshape(*grid, -1)],
                item_bytes=(n + c) * c * working.itemsize,
                least=_LEAST_PATCHES,
            )
        except FloatingPointError:
            _checks.finite("embedding", given)
            _checks.refuse("embedding", f"numbers whose squares {working} can hold", "larger ones")
        self._fitted = Fitted(tuple(grid), stored, mean, n, total, squared, scatter, ddof, reg_covar)
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
        return self._model().covariance()

    @property
    def inv_covariance(self) -> Array:
        """Inverses of the regularised covariances, ``(P, C, C)``."""
        return self._model().inv_covariance()

    @property
    def rank(self) -> Array:
        """Ranks of the regularised covariances, ``(P,)``."""
        return self._model().whitened().rank.copy()

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
        fitted = self._model()
        squared = _checks.flag("squared", squared)
        given, x = self._patches_of("embedding", embedding, fitted)
        *grid, m, c = x.shape
        factor = fitted.whitened().factor
        mean = fitted.mean.astype(fitted.dtype)
        result = np.empty((m, *grid), fitted.dtype)

        def kernel(x: Array, mean: Array, factor: Array) -> tuple[Array]:
            d = _whitening.distances(x, mean, factor, squared)
            if not np.isfinite(d).all():
                raise FloatingPointError
            return (d,)

        try:
            _blocks.over_stack(
                kernel,
                tuple(grid),
                [(x, 2), (mean.reshape(*grid, c), 1), (factor.reshape(*grid, c, c), 2)],
                [np.moveaxis(result, 0, -1)],
                item_bytes=(2 * m + c) * c * fitted.dtype.itemsize,
                least=_LEAST_PATCHES,
            )
        except FloatingPointError:
            _checks.finite("embedding", given)
            _checks.refuse("embedding", f"distances that {fitted.dtype} can hold", "larger ones")
        return result

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted model to one `.npz` file, without pickle.

        The file is written under another name and moved into place, so that a failure leaves an old
        file as it was.

        Parameters
        ----------
        path : path-like
            Where to write; the name is taken as it is.

        Raises
        ------
        ValueError
            If the model is not fitted.
        OSError
            If the file cannot be written.
        """
        fitted = self._model()
        w = fitted.whitened()
        header = {
            "params": {**self.get_params(), "dtype": self.dtype and np.dtype(self.dtype).name},
            "grid": fitted.grid,
            "dtype": fitted.dtype.name,
            "n_samples": fitted.n_samples,
            "sum_weights": fitted.sum_weights,
            "sum_squared_weights": fitted.sum_squared_weights,
            "ddof": fitted.ddof,
            "reg_covar": fitted.reg_covar,
        }
        arrays = {"mean": fitted.mean, **w._asdict()}
        if fitted.scatter is not None:
            arrays["scatter"] = fitted.scatter
        _files.write(path, header, arrays)

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
            self = cls(**header["params"])
            grid = header["grid"]
            self._fitted = Fitted(
                None if grid is None else tuple(grid),
                np.dtype(header["dtype"]),
                arrays["mean"],
                header["n_samples"],
                header["sum_weights"],
                header["sum_squared_weights"],
                arrays.get("scatter"),
                header["ddof"],
                header["reg_covar"],
                Whitening(arrays["factor"], arrays["rank"], arrays["log_pdet"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"path: expected the parts of a model, got none of {error}") from error
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
            raise NotFittedError("this MultiVariateGaussian is not fitted yet; call fit(embedding) first")
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

    def _patches_of(
        self, name: str, embedding: ArrayLike, fitted: Fitted | None = None
    ) -> tuple[Array, Array]:
        """Return an embedding as it came, and viewed as a stack of samples ``(*grid, N, C)``."""
        given = _checks.array(name, embedding)
        axis = _checks.integer("feature_axis", self.feature_axis)
        layout = f"(N, C, *grid) with the features C on axis {axis}"
        if given.ndim < 2 or given.size == 0:
            _checks.refuse(name, f"a non-empty array {layout}", f"shape {given.shape}")
        if not -given.ndim <= axis < given.ndim or axis % given.ndim == 0:
            _checks.refuse("feature_axis", f"an axis of the embedding {given.shape} but the first", f"{axis}")
        x = np.moveaxis(np.moveaxis(given, axis, -1), 0, -2)
        *grid, _, c = x.shape
        p = int(np.prod(grid))
        own = fitted or self
        for what, wanted, got in (
            ("features", own.n_features, c),
            ("patches", own.n_patches, p),
            ("grid", fitted and fitted.grid, tuple(grid)),
        ):
            if wanted is not None and wanted != got:
                _checks.refuse(
                    name, f"{what} {wanted}", f"{got} in shape {given.shape}, features on axis {axis}"
                )
        return given, x
