"""How others compute the same, as it is usually written. Packages that may be missing are imported when used."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from benchmarks.agreement import RIDGE, Array
from benchmarks.machine import missing

#: Where PyTorch is missing, anomalib's formulas run in NumPy.
FRAMEWORK = "numpy" if missing("torch") else "torch"


def original_fit(embedding: Any) -> tuple[Any, Any]:
    """Fit as anomalib's MultiVariateGaussian does, one patch after the other; return mean and inverse."""
    xp = import_module(FRAMEWORK)
    n, c, h, w = embedding.shape
    vectors = embedding.reshape(n, c, h * w)
    covariance = xp.zeros((c, c, h * w), dtype=xp.float32)
    identity = xp.eye(c, dtype=xp.float32)
    for i in range(h * w):
        centred = vectors[:, :, i] - vectors[:, :, i].mean(0)
        covariance[:, :, i] = centred.T @ centred / (n - 1) + RIDGE * identity
    stack = xp.moveaxis(covariance, 2, 0)
    return vectors.mean(0), xp.linalg.inv(stack)


def original_score(embedding: Any, mean: Any, inverse: Any) -> Any:
    """Score as anomalib's anomaly map generator does: sqrt(sum(delta @ inverse * delta))."""
    xp = import_module(FRAMEWORK)
    m, c, h, w = embedding.shape
    delta = xp.moveaxis(embedding.reshape(m, c, h * w) - mean.reshape(c, h * w), 2, 0)
    squares = ((delta @ inverse) * delta).sum(2).T
    return xp.sqrt(xp.clip(squares.reshape(m, h, w), 0, None))


def batched_fit(embedding: Any) -> tuple[Any, Any]:
    """Fit as one would in PyTorch with care: all patches in one product and one inverse."""
    torch = import_module("torch")
    n, c, h, w = embedding.shape
    vectors = embedding.reshape(n, c, h * w)
    mean = vectors.mean(dim=0)
    centred = (vectors - mean).permute(2, 0, 1).contiguous()
    covariance = torch.bmm(centred.transpose(1, 2), centred).div_(n - 1)
    covariance.diagonal(dim1=1, dim2=2).add_(RIDGE)
    return mean, torch.linalg.inv(covariance)


def arrays(*values: Array) -> tuple[Any, ...]:
    """Return arrays as the original takes them: the same memory as tensors, where PyTorch is installed."""
    if FRAMEWORK == "numpy":
        return tuple(np.asarray(value) for value in values)
    torch = import_module("torch")
    return tuple(torch.from_numpy(np.asarray(value)) for value in values)


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
    estimator = import_module("sklearn.covariance").EmpiricalCovariance
    return [estimator().fit(x).covariance_ for x in stack]


def numpy_pinv(stack: Array) -> Array:
    """Return pseudo-inverses with the cut-off of mvgauss: NumPy's of 1e-15 keeps rounding errors."""
    rtol = stack.shape[-1] * np.finfo(stack.dtype).eps
    return np.linalg.pinv(stack, hermitian=True, rtol=rtol)


def exported(model: Any, folder: str) -> Any:
    """Return a session of onnxruntime with the file that a model is exported to."""
    import_module("mvgauss.onnx").export(model, f"{folder}/model.onnx")
    return import_module("onnxruntime").InferenceSession(
        f"{folder}/model.onnx", providers=["CPUExecutionProvider"]
    )
