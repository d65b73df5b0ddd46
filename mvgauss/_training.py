"""Fitting: all samples at once, part by part, or from another model."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Self

from numpy.typing import ArrayLike

from mvgauss import _arguments, _fitting, _names
from mvgauss._fitted import Fitted
from mvgauss._params import Parameters, not_fitted
from mvgauss._walks import OutOfRangeError, TooSmallError
from mvgauss._warnings import PictureWarning, warn_if_few

#: The largest weight that is taken: far below where its square leaves the range.
_HEAVY = 1e100


class Training(Parameters):
    """How a model of patches is fitted."""

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
            If the embedding has the wrong shape, is not finite (the message has the index of the
            first NaN), or has no more samples than `ddof`; or if a parameter is out of range. The
            model is left as it was.
        TypeError
            If an argument is of the wrong kind.

        Warns
        -----
        FewSamplesWarning
            If there are no more samples than features, and no shrinkage; of an array that is read part
            by part, at the first use.
        PictureWarning
            If the embedding looks like pictures: uint8, with 3 or 4 on the last axis.
        """
        with self._training():
            fitted = self._updated(None, embedding, sample_weight, factor=True)
            fitted.raise_if_too_few()
            if fitted.factor is not None:
                warn_if_few(fitted.n_samples, fitted.n_features, fitted.regularisation.shrinkage)
            self._fitted = fitted
        return self

    def partial_fit(
        self, embedding: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        r"""Fit more samples.

        However the samples are split and ordered, the model is that of `fit` on all of them, up to
        rounding. After `fit`, it adds to the fitted samples. The factors are computed at the first use,
        which warns of few samples as `fit` does, unless the model was calibrated.

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
            As `fit`, or if the sizes differ from those seen before, or if the model was saved
            without its moments. The model is left as it was.
        TypeError
            If an argument is of the wrong kind.

        Notes
        -----
        The error of an entry of the scatter M stays below a small multiple of
        :math:`N \epsilon \sqrt{M_{ii} M_{jj}}`, as in `Moments`. Each merge rounds the mean too, which for
        k parts with means of size m adds up to :math:`k\, \epsilon\, m \sqrt{M / N}`: negligible
        for batches, and noticeable only for data far from zero that come one sample at a time.
        """
        with self._training():
            self._fitted = self._updated(self._fitted, embedding, sample_weight)
        return self

    def merge(self, other: Training) -> Self:
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
            If one of the models has no moments, or they differ in sizes. The model is left as it was.
        TypeError
            If `other` is no `MultiVariateGaussian`.
        """
        if not isinstance(other, Training):
            _arguments.raise_error("other", "a MultiVariateGaussian", type(other).__name__, TypeError)
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
                        _arguments.raise_error("other", f"{what} = {wanted}", f"{getattr(theirs, what)}")
                self._fitted = replace(theirs.regularised(how), dtype=self._kept(theirs.dtype), factor=None)
                return self
            _names.check(mine.feature_names, theirs.feature_names, type(self).__name__)
            mine.require_moments()
            for what in ("n_features", "grid"):
                if getattr(mine, what) != getattr(theirs, what):
                    _arguments.raise_error(
                        "other", f"{what} = {getattr(mine, what)}", f"{getattr(theirs, what)}"
                    )
            try:
                self._fitted = _fitting.merge(
                    mine.regularised(how), theirs.regularised(how), self._walk("merge")
                )
            except OutOfRangeError:
                _arguments.raise_error("other", "moments that double precision can hold together", "larger ones")
        return self

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
        names = _names.of(embedding) if base is None else base.feature_names
        x = self._embedding(embedding, base)
        if base is None and x.pictures:
            warnings.warn(
                f"embedding: integers of shape {x.shape} look like pictures; fit their embeddings, the "
                "output of a network",
                PictureWarning,
                stacklevel=_arguments.outside(),
            )
        w = None
        if sample_weight is not None:
            # a whole part of a stream may have weight zero; a fit may not
            w = _arguments.weights("sample_weight", sample_weight, (), x.n_samples, some=factor)
            if w.max() > _HEAVY:
                _arguments.raise_error(
                    "sample_weight", "numbers of samples whose squares add up", f"{w.max():.3g}"
                )
        kept = self._kept(x.dtype) if base is None else base.dtype
        if base is not None:
            base = base.regularised(how)
        for part, stack in x.parts(merged=True):
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
                x.raise_not_finite(part, stack, small=True)
            except OutOfRangeError:
                x.raise_not_finite(part, stack)
        assert base is not None
        return base if names is None else replace(base, feature_names=names)
