"""Tests of torch's covariance, and of a batched port of mvgauss's: ``pytest docs/testing_torch.py``."""

import numpy as np
import pytest
import torch
from hypothesis import given

from mvgauss.testing import assert_within, cov_bound, cov_checks, exact_cov, load_vectors, strategies


def torch_cov(x, ddof=1, aweights=None, fweights=None):
    """Call torch's own, whose features are rows."""
    return torch.cov(x.mT, correction=ddof, aweights=aweights, fweights=fweights)


def batched_cov(x, ddof=1, aweights=None, fweights=None):
    """The port: observations (..., N, C) to covariances (..., C, C)."""
    if any(w is not None and w.shape[-1] != x.shape[-2] for w in (aweights, fweights)):
        raise ValueError("weights: expected one for each sample")
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
    divisor = total - ddof * (w * a).sum(-1) / total
    return scatter / divisor.clamp(min=0)[..., None, None]


TORCH = {"ddof", "aweights", "fweights", "complex", "nan", "degenerate", "errors", "two_pass"}
PORT = TORCH | {"stacks", "weight_stacks", "widening", "symmetric", "symmetric_weighted", "fractional_ddof"}


@pytest.mark.parametrize("check", cov_checks(features=TORCH, asarray=torch.asarray))
def test_a_law_of_torch(check):
    check(torch_cov)


@pytest.mark.parametrize("check", cov_checks(features=PORT, asarray=torch.asarray))
def test_a_law_of_the_port(check):
    check(batched_cov)


KNOWN = {"observations", "ddof", "aweights", "fweights"}
VECTORS = [
    v for v in load_vectors("cov") if v.arguments.keys() <= KNOWN and v.arguments["observations"].ndim > 1
]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: v.name)
def test_a_golden_vector(vector):
    given = {k: torch.asarray(v) if isinstance(v, np.ndarray) else v for k, v in vector.arguments.items()}
    x = given.pop("observations")
    if vector.refused:
        with pytest.raises(ValueError, match="weights"):
            batched_cov(x, **given)
    else:
        got = batched_cov(x, **given).numpy()
        vector.check(covariance=got.reshape(vector.answers["covariance"].shape))


@strategies.steady
@given(strategies.observations(c=(2, 4), stacks=strategies.stack_shapes()))
def test_samples_of_bounded_condition(x):
    assert_within(batched_cov(torch.tensor(x)), exact_cov(x), cov_bound(x))
