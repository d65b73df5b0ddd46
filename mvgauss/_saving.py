"""Models <-> files, and models from the parameters of others."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from mvgauss import _arguments, _files, _fitting, _limits, _state
from mvgauss._params import Parameters


class Saving(Parameters):
    """Saving and loading of a model of patches."""

    _metadata: dict[str, Any] = {}  # noqa: RUF012, never changed in place

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
        ValueError
            If the model is not fitted, a parameter is out of range, or `metadata` is too large.
        TypeError
            If a parameter is of the wrong kind, or `metadata` has other than plain values; the message
            names the key.
        OSError
            If the file cannot be written.
        """
        self._raise_if_params_are_wrong()  # no file that `load` refuses
        fitted = self._model()
        if not _arguments.flag("resumable", resumable):
            walk = self._walk("factors")
            _limits.by_default(fitted, walk)  # which needs the moments
            fitted = fitted.without_moments(walk)
        dtype = None if self.dtype is None else np.dtype(self.dtype).name
        header, arrays = _state.pack(fitted)
        header["metadata"] = self.metadata if metadata is None else _files.plain_metadata(metadata)
        header["params"] = {**self.get_params(), "dtype": dtype}
        _files.write(path, header, arrays)

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
        version, header, arrays = _files.read(path)
        try:
            self = cls(**header.pop("params"))
            self._raise_if_params_are_wrong()
            self._metadata = _files.plain_metadata(header.pop("metadata", {}))
            self._fitted = _state.unpack(version, header, arrays)
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
            In which to store the factors; by default that of the parameters, at least single.

        Returns
        -------
        MultiVariateGaussian
            A model that scores embeddings with C features and a grid of any shape with P patches.

        Raises
        ------
        ValueError
            If shapes do not fit, a number is not finite, or a matrix is not symmetric positive semi-definite.
        TypeError
            If an argument is of the wrong kind.
        """
        mu = _arguments.array("mean", mean)
        p = _arguments.array("inv_covariance", inv_covariance)
        if mu.ndim != 2 or 0 in mu.shape:
            _arguments.raise_error("mean", "shape (C, P)", f"shape {mu.shape}")
        wanted = (mu.shape[1], mu.shape[0], mu.shape[0])
        if p.shape != wanted:
            _arguments.raise_error("inv_covariance", f"shape {wanted} as mean is {mu.shape}", f"shape {p.shape}")
        _arguments.finite("mean", mu)
        self = cls().set_params(feature_axis=feature_axis, dtype=dtype)
        self._fitted = _fitting.from_inverse(mu.T, p, self._kept(np.result_type(mu, p)))
        return self
