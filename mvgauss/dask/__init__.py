"""Fitting and scoring of Dask arrays: the same moments, computed on many machines.

`fit` returns an ordinary model, `parameters` the arrays of a model too large for one machine, and scores
are lazy arrays. Nothing is computed before `compute`. A task computes the moments of one chunk, a tree of
tasks merges them, and only moments are moved; Dask does the scheduling, retries, spilling and transport.
A task starts no threads and limits BLAS to one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import ArrayLike

from mvgauss import _arguments
from mvgauss._gaussian import MultiVariateGaussian

try:
    import dask
    import dask.array as da
except ImportError as error:
    raise ImportError(
        "mvgauss.dask: expected the package dask, got none; pip install 'mvgauss[dask]'"
    ) from error

from mvgauss.dask import _tasks

__all__ = ["fit", "mahalanobis", "p_value", "parameters", "score_samples"]


def fit(
    model: MultiVariateGaussian,
    embedding: da.Array,
    sample_weight: da.Array | ArrayLike | None = None,
    *,
    split_every: int = 4,
) -> Any:
    """Fit a Gaussian to each patch of a Dask array.

    Parameters
    ----------
    model : MultiVariateGaussian
        The parameters to fit with, and the layout of the embedding; it is not changed.
    embedding : dask.array.Array, shape (N, C, *grid)
        Embeddings of N good images; C is at the model's `feature_axis`. Chunked along
        samples, patches or both, in chunks of any sizes, but not along features.
    sample_weight : dask.array.Array or array_like, shape (N,), optional
        How often each image counts: a weight of 2 is the image twice.
    split_every : int, default 4
        How many moments of the same patches are merged by one task.

    Returns
    -------
    dask.delayed.Delayed
        Computes to a `MultiVariateGaussian`, equal to that of ``model.fit`` to rounding. It makes
        its factors when they are first needed.

    Raises
    ------
    ValueError
        If the embedding or a parameter of the model does not fit; when it is computed, as
        ``model.fit``, the index of a NaN being that in the whole array, or if a chunk is not of the
        shape and dtype that the Dask array declares.
    TypeError
        If an argument, or a chunk, is of the wrong kind.

    Examples
    --------
    >>> import dask.array as da
    >>> import mvgauss.dask
    >>> from mvgauss import MultiVariateGaussian
    >>> x = da.from_array([[0.0, 0.0], [2.0, 4.0], [4.0, 2.0]], chunks=(2, -1))
    >>> lazy = mvgauss.dask.fit(MultiVariateGaussian(reg_covar=0), x)
    >>> lazy.compute().covariance
    array([[[4., 2.],
            [2., 4.]]])
    """
    x, seen = _tasks.checked(model, embedding, None)
    trees = _tasks.states(model, x, seen, sample_weight, split_every)
    places, parts = list(_tasks.places(x, seen).values()), trees.to_delayed().ravel().tolist()
    return dask.delayed(_tasks.assembled)(type(model)(**model.get_params()), seen.grid, places, parts)


def parameters(
    model: MultiVariateGaussian,
    embedding: da.Array,
    sample_weight: da.Array | ArrayLike | None = None,
    *,
    split_every: int = 4,
) -> dict[str, da.Array]:
    r"""Fit, and return the parameters as arrays: for models too large for one machine.

    Parameters
    ----------
    model, embedding, sample_weight, split_every : object
        As in `fit`.

    Returns
    -------
    dict of str to dask.array.Array
        ``mean``, of shape ``(*grid, C)``, ``rank``, ``log_pdet`` and ``shrinkage`` intensity, of shape
        ``(*grid)``, and the arrays of the factors (see Notes), all chunked along the grid as the
        embedding is. `mahalanobis` and `score_samples` take the mapping in place of a model, be it
        lazy, persisted or read from where it was stored. Compute, persist or store all arrays
        together: each alone would fit again.

    Raises
    ------
    ValueError, TypeError
        As `fit`.

    Notes
    -----
    Few samples for the features, up to about C / 2, have covariances :math:`\hat\Sigma = s K^T K + \delta I`
    of N - 1 rows K: ``rows`` K, ``(*grid, N-1, C)``, ``scale`` s and ``floor`` :math:`\delta`, ``(*grid)``,
    and ``small`` T, ``(*grid, N-1, N-1)``, with :math:`T^T T = (s K K^T + \delta I)^+`. More of them, or no
    regularisation, have a ``root`` W, ``(*grid, m, C)``, with :math:`W^T W = \hat\Sigma^+`.

    Examples
    --------
    >>> import dask.array as da
    >>> import mvgauss.dask
    >>> from mvgauss import MultiVariateGaussian
    >>> x = da.from_array([[[1.0, 5.0]], [[3.0, 9.0]]], chunks=(1, -1, 1))
    >>> arrays = mvgauss.dask.parameters(MultiVariateGaussian(reg_covar=0, ddof=0), x)
    >>> arrays["mean"].compute().ravel(), arrays["root"].compute().ravel()
    (array([2., 7.]), array([1. , 0.5]))
    """
    x, seen = _tasks.checked(model, embedding, None)
    return _tasks.arrays(model, x, seen, _tasks.states(model, x, seen, sample_weight, split_every))


def mahalanobis(
    model: MultiVariateGaussian | Mapping[str, da.Array], embedding: da.Array, squared: bool = False
) -> da.Array:
    """Distance of every patch of new images from its Gaussian.

    Parameters
    ----------
    model : MultiVariateGaussian, or the mapping of `parameters`
        What was fitted. A task is sent the Gaussians of its own patches. With a mapping, features are axis 1.
    embedding : dask.array.Array, shape (M, C, *grid)
        Embeddings of M images, chunked in any way but along features.
    squared : bool, default False
        Whether to return squared distances instead.

    Returns
    -------
    dask.array.Array, shape (M, *grid)
        Distances as of ``model.mahalanobis``, chunked as the embedding is.

    Raises
    ------
    ValueError
        If the model is not fitted, or the embedding is of another shape; when it is computed, if the
        embedding is not finite, with the index in the whole array, or if a chunk is not of the shape
        and dtype that the Dask array declares.
    TypeError
        If an argument, or a chunk, is of the wrong kind.

    Examples
    --------
    >>> import dask.array as da
    >>> import mvgauss.dask
    >>> from mvgauss import MultiVariateGaussian
    >>> model = MultiVariateGaussian.from_parameters([[1.0], [2.0]], [[[1.0, 0.0], [0.0, 4.0]]])
    >>> x = da.from_array([[1.0, 2.0], [4.0, 4.0]], chunks=(1, -1))
    >>> mvgauss.dask.mahalanobis(model, x).compute()
    array([0., 5.])
    """
    return _tasks.scored("mahalanobis", model, embedding, squared=_arguments.flag("squared", squared))


def score_samples(model: MultiVariateGaussian | Mapping[str, da.Array], embedding: da.Array) -> da.Array:
    """Log density of every patch of new images.

    Parameters
    ----------
    model, embedding : object
        As in `mahalanobis`.

    Returns
    -------
    dask.array.Array, shape (M, *grid)
        Log densities as of ``model.score_samples``, chunked as the embedding is.

    Raises
    ------
    ValueError, TypeError
        As `mahalanobis`.
    """
    return _tasks.scored("score_samples", model, embedding)


def p_value(model: MultiVariateGaussian, embedding: da.Array) -> da.Array:
    """Probability of a distance at least as large, for a patch of a new good image.

    Parameters
    ----------
    model : MultiVariateGaussian
        A fitted model; its ``p_value_law`` names the distribution.
    embedding : dask.array.Array, shape (M, C, *grid)
        As in `mahalanobis`.

    Returns
    -------
    dask.array.Array, shape (M, *grid)
        Between 0 and 1, as of ``model.p_value``, chunked as the embedding is.

    Raises
    ------
    ValueError, TypeError
        As `mahalanobis`.
    """
    return _tasks.scored("p_value", model, embedding)
