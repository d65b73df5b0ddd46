"""How others compute the same, as it is usually written; what may be missing is imported when used."""

from __future__ import annotations

import tempfile
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

from benchmarks.agreement import RIDGE, Array
from benchmarks.machine import cpus

#: Where PyTorch is missing, anomalib's formulas run in NumPy.
FRAMEWORK = "torch" if find_spec("torch") else "numpy"


def arrays(*values: Array) -> tuple[Any, ...]:
    """Return arrays as anomalib's formulas take them: where PyTorch is installed, as tensors."""
    if FRAMEWORK == "numpy":
        return tuple(np.asarray(value) for value in values)
    torch = import_module("torch")
    if torch.get_num_threads() != cpus():
        torch.set_num_threads(cpus())
    return tuple(torch.from_numpy(np.asarray(value)) for value in values)


def original_fit(embedding: Any) -> tuple[Any, Any]:
    """Fit as anomalib's MultiVariateGaussian does, one patch after the other; return mean and inverse."""
    xp = import_module(FRAMEWORK)
    n, c, h, w = embedding.shape
    vectors = embedding.reshape(n, c, h * w)
    order = {"order": "F"} if xp is np else {}  # NumPy is many times slower with strided matrices
    covariance = xp.zeros((c, c, h * w), dtype=xp.float32, **order)
    identity = xp.eye(c, dtype=xp.float32)
    for i in range(h * w):
        centred = vectors[:, :, i] - vectors[:, :, i].mean(0)
        covariance[:, :, i] = centred.T @ centred / (n - 1) + RIDGE * identity
    return vectors.mean(0), xp.linalg.inv(xp.moveaxis(covariance, 2, 0))


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


def original_score(images: Any, mean: Any, inverse: Any) -> Any:
    """Score as anomalib's anomaly map generator does: sqrt(sum(delta @ inverse * delta))."""
    xp = import_module(FRAMEWORK)
    m, c, h, w = images.shape
    delta = xp.moveaxis(images.reshape(m, c, h * w) - mean.reshape(c, h * w), 2, 0)
    squares = ((delta @ inverse) * delta).sum(2).T
    return xp.sqrt(xp.clip(squares.reshape(m, h, w), 0, None))


def numpy_cov_loop(stack: Array) -> Array:
    """Return the covariances of ``(P, N, C)`` data, one after the other."""
    return np.stack([np.cov(x, rowvar=False) for x in stack])


def extra_cov(stack: Array) -> Array:
    """Return the covariances of ``(P, N, C)`` data, in a batch."""
    return np.asarray(import_module("array_api_extra").cov(stack.swapaxes(1, 2)))


def sklearn_cov_loop(stack: Array) -> Array:
    """Return the covariances of ``(P, N, C)`` data, one after the other; scikit-learn divides by N."""
    estimator = import_module("sklearn.covariance").EmpiricalCovariance
    n = stack.shape[1]
    return np.stack([estimator().fit(x).covariance_ * (n / (n - 1)) for x in stack])


def numpy_pinv(stack: Array) -> Array:
    """Return pseudo-inverses with the cut-off of mvgauss: NumPy's of 1e-15 keeps rounding errors."""
    rtol = stack.shape[-1] * np.finfo(stack.dtype).eps
    return np.asarray(np.linalg.pinv(stack, hermitian=True, rtol=rtol))


def session(data: Any) -> tuple[Any, Array]:
    """Return a session of onnxruntime with the file that a model is exported to, and images."""
    with tempfile.TemporaryDirectory() as folder:
        import_module("mvgauss.onnx").export(data.model, f"{folder}/model.onnx")
        made = import_module("onnxruntime").InferenceSession(f"{folder}/model.onnx")
    return made, data.images
