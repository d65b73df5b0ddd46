"""The parameters of a model of patches, what is fitted, and how scikit-learn sees it."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from mvgauss import _blas, _blocks, _arguments, _fitting, _html, _names
from mvgauss._arguments import Array
from mvgauss._embedding import READ_BYTES, Embedding
from mvgauss._fitted import Fitted
from mvgauss._locks import Lock
from mvgauss._shrinkage import Regularisation
from mvgauss._walks import Walk


class NotFittedError(ValueError, AttributeError):
    """The model has no parameters yet."""


def not_fitted(message: str) -> NotFittedError:
    """Return that error; one that scikit-learn knows too, where it is in use."""
    theirs = getattr(sys.modules.get("sklearn.exceptions"), "NotFittedError", None)
    if theirs is None:
        return NotFittedError(message)
    error: NotFittedError = type("NotFittedError", (NotFittedError, theirs), {})(message)
    return error


class Parameters:
    """Parameters of the constructor, and the Gaussians that were fitted with them."""

    _fitted: Fitted | None = None

    #: About how many bytes of an array that can only be indexed are read at once.
    read_bytes: int = READ_BYTES

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

    def __repr__(self) -> str:
        return _html.text(self)

    def _repr_html_(self) -> str:
        """Return what a notebook shows; it factors nothing."""
        return _html.card(self, self._fitted)

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
        return self._model().factors(self._walk("factors")).rank.copy()

    @property
    def nbytes(self) -> int:
        """Bytes of the fitted model: means, moments, and factors once they are computed."""
        return self._model().nbytes

    @property
    def n_samples_seen_(self) -> int:
        """Number of samples that were fitted, in all calls together; 0 for parameters alone."""
        return self._model().n_samples

    @property
    def n_features_in_(self) -> int:
        """Number of features of the fitted embeddings."""
        return self._model().n_features

    @property
    def feature_names_in_(self) -> Array:
        """Names of the columns of the fitted data frames, ``(C,)``; missing where those had none."""
        names = self._model().feature_names
        if names is None:
            raise AttributeError("feature_names_in_: this model was fitted without feature names")
        return names.copy()

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
        return self._fitted is not None

    def _model(self) -> Fitted:
        """Return what is fitted, or the identity of the sizes given to the constructor."""
        if self._fitted is not None:
            return self._fitted
        if self.n_features is None or self.n_patches is None:
            raise not_fitted("this MultiVariateGaussian is not fitted yet; call fit(embedding) first")
        c = _arguments.integer("n_features", self.n_features, low=1)
        p = _arguments.integer("n_patches", self.n_patches, low=1)
        return _fitting.identity(c, p, self._kept(np.dtype(np.float32)))

    def _kept(self, given: np.dtype[Any]) -> np.dtype[Any]:
        """Return the dtype to keep results of such data in."""
        if self.dtype is None:
            return _arguments.stored(given)
        dtype = _arguments.inexact("dtype", self.dtype, kinds="f")
        if dtype.itemsize not in (4, 8):
            _arguments.raise_error("dtype", "float32 or float64", str(dtype))
        return dtype

    def _embedding(self, value: ArrayLike, fitted: Fitted | None) -> Embedding:
        """Return an embedding of the sizes seen before, or of those given to the constructor."""
        if fitted is not None:
            _names.check(fitted.feature_names, _names.of(value), type(self).__name__)
        read_bytes = _arguments.integer("read_bytes", self.read_bytes, low=1)
        x = Embedding(value, self.feature_axis, read_bytes=read_bytes)
        if fitted is None:
            x.raise_if_other(self.n_features, self.n_patches)
        else:
            x.raise_if_other(fitted.n_features, fitted.n_patches, fitted.grid)
        return x

    def _regularisation(self) -> Regularisation:
        """Return how covariances are made, from the parameters as they are now."""
        return Regularisation.checked(self.ddof, self.reg_covar, self.shrinkage)

    def _raise_if_params_are_wrong(self) -> None:
        self._regularisation()
        self._kept(np.dtype(np.float64))
        self._walk("")
        _blocks.cpu_count(self.n_jobs)
        _arguments.integer("feature_axis", self.feature_axis)
        for name in ("n_features", "n_patches"):
            if (value := getattr(self, name)) is not None:
                _arguments.integer(name, value, low=1)

    def _walk(self, task: str) -> Walk:
        return Walk(self.n_jobs, task if _arguments.flag("progress", self.progress) else None)

    @contextmanager
    def _training(self) -> Iterator[None]:
        """Let one thread at a time change this model."""
        lock: Lock = vars(self).setdefault("_lock", Lock())
        with lock.free(), _blas.short_turns():
            yield

    def __getstate__(self) -> dict[str, Any]:
        """Return what copies have, of which each gets a lock of its own."""
        return {name: value for name, value in vars(self).items() if name != "_lock"}
