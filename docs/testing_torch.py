"""A port of the covariance to torch, and its tests against mvgauss: ``pytest docs/testing_torch.py``."""

import numpy as np
import pytest
import torch
from hypothesis import given

from mvgauss.testing import cov_bound, cov_checks, exact_cov, load_vectors, strategies


def batched_cov(x, correction=1, aweights=None, fweights=None):
    """The port: observations (..., N, C) to covariances (..., C, C)."""
    x = x.to(torch.promote_types(x.dtype, torch.float64))
    a, f = (
        torch.ones(x.shape[:-1], dtype=torch.float64) if w is None else w.expand(x.shape[:-1])
        for w in (aweights, fweights)
    )
    if (a < 0).any() or (f < 0).any() or (f != f.round()).any():
        raise ValueError("weights: expected numbers >= 0, whole ones for fweights")
    w = a * f
    total = w.sum(-1)
    if x.shape[-2] and not total.all():
        raise ValueError("weights: expected some > 0")
    z = x - (w[..., None] * x).sum(-2, keepdim=True) / total[..., None, None]
    scatter = z.mT @ (w[..., None] * z.conj())
    scatter = (scatter + scatter.mH) / 2
    divisor = total - correction * (w * a).sum(-1) / total
    return scatter / divisor.clamp(min=0)[..., None, None]


def tensor(values):
    """Copy an array to a tensor, in an order of bytes and of axes that torch knows."""
    values = np.asarray(values)
    return torch.tensor(values.astype(values.dtype.newbyteorder("=")).copy())


def port(observations, rowvar=False, bias=False, ddof=None, aweights=None, *, fweights=None):
    """Call the port as the checks call: translate the arguments, and change nothing else."""
    x = tensor(observations)
    x = x.reshape(-1, 1) if x.ndim < 2 else x.mT if rowvar else x
    weights = {"aweights": aweights, "fweights": fweights}
    for name, w in weights.items():
        if w is not None and np.shape(w)[-1] != x.shape[-2]:
            raise ValueError(f"{name}: expected {x.shape[-2]}")
        weights[name] = None if w is None else tensor(w)
    correction = (0 if bias else 1) if ddof is None else ddof
    result = batched_cov(x, correction, **weights).numpy()
    return result[0, 0] if result.shape == (1, 1) else result


NOT_OURS = {
    "no_degrees_of_freedom_warn",  # a kernel has nobody to warn
    "long_double_is_kept",  # torch has none
    "dtype_is_that_of_the_result",  # the port has no dtype
}


@pytest.mark.parametrize("check", cov_checks(skip=NOT_OURS))
def test_a_law(check):
    check(port)


@pytest.mark.parametrize("vector", load_vectors("cov"), ids=lambda v: v.name)
def test_a_golden_vector(vector):
    if vector.refused:
        with pytest.raises(ValueError, match="weights"):
            port(**vector.arguments)
    else:
        vector.check(covariance=port(**vector.arguments))


@strategies.steady
@given(strategies.observations(stacks=strategies.stack_shapes()))
def test_samples_of_bounded_condition(x):
    assert (np.abs(port(x) - exact_cov(x)) <= cov_bound(x)).all()
