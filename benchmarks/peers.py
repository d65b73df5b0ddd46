"""How others come to the same answers, as well as they are usually written.

Modules that may not be installed are imported when first asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import cpus

Array = NDArray[Any]

RIDGE = 0.01

#: Sizes of matrices of which `torch.linalg.inv` fails for a batch; see `probe`.
one_by_one: set[int] = set()


@cache
def torch() -> Any:
    """Return PyTorch, on as many threads as we use; see `probe` for why that is not always set."""
    module = import_module("torch")
    if module.get_num_threads() != cpus():
        module.set_num_threads(cpus())
    return module


# ---------------------------------------------------------------------------------------------------------
# PyTorch


def original_fit(embedding: Any) -> tuple[Any, Any]:
    """Fit as anomalib's MultiVariateGaussian does, one patch after the other; return mean and inverse."""
    n, c, h, w = embedding.shape
    vectors = embedding.reshape(n, c, h * w)
    mean = torch().mean(vectors, dim=0)
    covariance = torch().zeros(c, c, h * w)
    identity = torch().eye(c)
    for i in range(h * w):
        observations = vectors[:, :, i]
        centred = observations - torch().mean(observations, 0)
        covariance[:, :, i] = torch().mm(centred.t(), centred) / (n - 1) + RIDGE * identity
    return mean, inverse(covariance.permute(2, 0, 1))


def original_score(embedding: Any, mean: Any, inverse: Any) -> Any:
    """Score as anomalib's anomaly map generator does: sqrt(sum(delta @ inverse * delta))."""
    m, c, h, w = embedding.shape
    delta = (embedding.reshape(m, c, h * w) - mean).permute(2, 0, 1)
    squares = (torch().matmul(delta, inverse) * delta).sum(2).permute(1, 0)
    return squares.reshape(m, h, w).clamp(0).sqrt()


def batched_fit(embedding: Any) -> tuple[Any, Any]:
    """Fit as one would in PyTorch with care: all patches in one product and one inverse."""
    n, c, h, w = embedding.shape
    vectors = embedding.reshape(n, c, h * w)
    mean = vectors.mean(dim=0)
    centred = (vectors - mean).permute(2, 0, 1).contiguous()
    covariance = torch().bmm(centred.transpose(1, 2), centred).div_(n - 1)
    covariance.diagonal(dim1=1, dim2=2).add_(RIDGE)
    return mean, inverse(covariance)


def inverse(stack: Any) -> Any:
    """Return ``torch.linalg.inv(stack)``, or that of one matrix after the other where batches fail."""
    if int(stack.shape[-1]) in one_by_one:
        return torch().stack([torch().linalg.inv(matrix) for matrix in stack])
    return torch().linalg.inv(stack)


def probe(size: int) -> None:
    """Find out whether `torch.linalg.inv` fails for a batch of matrices of a size.

    MKL fails on batches of large matrices once a program has set its number of threads: it writes
    complaints on the terminal, and PyTorch raises, or does not and returns nonsense.
    """
    identity = torch().eye(size)
    ones = torch().ones(size, size, 4).permute(2, 0, 1)  # strided as the original's covariances
    try:
        rest = torch().linalg.inv(ones + size * identity) @ (ones + size * identity) - identity
        right = bool(rest.abs().max() < 0.01)
    except RuntimeError:
        right = False
    if not right:
        one_by_one.add(size)


def remarks() -> list[str]:
    """Return what has to be said of what was found out."""
    return [
        f"torch.linalg.inv fails for a batch of {c}x{c} here, so it was given one at a time."
        for c in sorted(one_by_one)
    ]


# ---------------------------------------------------------------------------------------------------------
# NumPy, array-api-extra, scikit-learn


def numpy_cov(x: Array) -> Array:
    """Return the covariance of ``(N, C)`` data."""
    return np.asarray(np.cov(x, rowvar=False))


def numpy_cov_loop(stack: Array) -> Array:
    """Return the covariances of ``(P, N, C)`` data, one after the other."""
    return np.stack([np.cov(x, rowvar=False) for x in stack])


def extra_cov(stack: Array) -> Array:
    """Return the covariances of ``(P, N, C)`` data, in a batch."""
    return np.asarray(import_module("array_api_extra").cov(stack.swapaxes(1, 2)))


def sklearn_cov_loop(stack: Array) -> list[Array]:
    """Return the covariances of ``(P, N, C)`` data over N, not N - 1, one after the other."""
    estimator: Callable[[], Any] = import_module("sklearn.covariance").EmpiricalCovariance
    return [estimator().fit(x).covariance_ for x in stack]


def numpy_pinv(stack: Array) -> Array:
    """Return pseudo-inverses with the cut-off that ours has: NumPy's of 1e-15 keeps rounding errors."""
    rtol = stack.shape[-1] * np.finfo(stack.dtype).eps
    return np.linalg.pinv(stack, hermitian=True, rtol=rtol)
