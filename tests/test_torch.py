"""Tensors of PyTorch are taken as arrays, and maps are upsampled as it upsamples. Skipped without it."""

import warnings

import numpy as np
import pytest
from common import EPS, SINGLE, assert_within, frozen

from mvgauss import MultiVariateGaussian, anomaly_map

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torch's imports are not our business
    torch = pytest.importorskip("torch")


@pytest.fixture
def train(rng):
    return frozen(rng.standard_normal((30, 8, 4, 5)) * 0.5 + 1)


def test_a_tensor_is_viewed_not_copied_and_not_written_to(train):
    x = torch.tensor(np.array(train), dtype=torch.float32)
    before = x.clone()
    model = MultiVariateGaussian().fit(x)
    assert model.mahalanobis(x).dtype == np.float32
    assert torch.equal(x, before)
    channels_last = x.contiguous(memory_format=torch.channels_last)
    same = MultiVariateGaussian().fit(channels_last)
    assert_within(same.covariance, model.covariance, 64 * SINGLE * np.abs(model.covariance).max())


def test_a_tensor_that_needs_a_gradient_is_refused_by_name(train):
    x = torch.tensor(np.array(train), requires_grad=True)
    with pytest.raises(TypeError, match=r"embedding: expected .*, got Tensor that NumPy cannot view"):
        MultiVariateGaussian().fit(x)


@pytest.mark.parametrize("size", [(8, 10), (4, 5), (33, 17), (5, 4), (2, 3), (1, 1), (112, 112)])
def test_maps_are_upsampled_as_torch_upsamples(rng, size):
    d = frozen(rng.random((3, 4, 5)))
    want = torch.nn.functional.interpolate(
        torch.tensor(d[None]), size=size, mode="bilinear", align_corners=False
    )
    assert_within(anomaly_map(d, size, sigma=0), want[0].numpy(), 64 * EPS)
