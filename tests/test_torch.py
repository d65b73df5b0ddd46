"""A live comparison with PyTorch: torch.cov, anomalib's formulas, F.interpolate. Skipped without it."""

import warnings

import numpy as np
import pytest
from common import EPS, SINGLE, assert_within, distance_bound, frozen, inverse_bound

from mvgauss import MultiVariateGaussian, anomaly_map, cov
from mvgauss.testing import cov_bound

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torch's imports are not our business
    torch = pytest.importorskip("torch")


class Original(torch.nn.Module):
    """The formulas of anomalib's MultiVariateGaussian, in the precision of what it is given."""

    def __init__(self, ridges):
        super().__init__()
        self.ridges = ridges

    def forward(self, embedding):
        n, c, h, w = embedding.shape
        vectors = embedding.reshape(n, c, h * w)
        mean = torch.mean(vectors, dim=0)
        covariance = torch.zeros(c, c, h * w, dtype=embedding.dtype)
        for i in range(h * w):
            centred = vectors[:, :, i] - vectors[:, :, i].mean(dim=0, keepdim=True)
            covariance[:, :, i] = centred.T @ centred / (n - 1)
            for ridge in self.ridges:
                covariance[:, :, i] += ridge * torch.eye(c, dtype=embedding.dtype)
        return [mean, torch.linalg.inv(covariance.permute(2, 0, 1))]


@pytest.fixture
def train(rng):
    return frozen(rng.standard_normal((30, 8, 4, 5)) * 0.5 + 1)


@pytest.mark.parametrize("correction", [0, 1, 2])
@pytest.mark.parametrize("kind", ["", "a", "f", "af"])
def test_cov_is_torchs(rng, correction, kind):
    x, a, f = rng.standard_normal((4, 15)), rng.uniform(0.5, 2, 15), rng.integers(1, 4, 15)
    want = torch.cov(
        torch.tensor(x),
        correction=correction,
        aweights=torch.tensor(a) if "a" in kind else None,
        fweights=torch.tensor(f) if "f" in kind else None,
    )
    a, f = a if "a" in kind else None, f if "f" in kind else None
    got = cov(frozen(x), rowvar=True, ddof=correction, aweights=a, fweights=f)
    assert_within(got, want.numpy(), 2 * cov_bound(x.T, ddof=correction, fweights=f, aweights=a))


def test_cov_of_complex_data_is_torchs(rng):
    x = rng.standard_normal((4, 15)) + 1j * rng.standard_normal((4, 15))
    assert_within(cov(x, rowvar=True), torch.cov(torch.tensor(x)).numpy(), 2 * cov_bound(x.T))


@pytest.mark.parametrize("ridges", [(0.01,), (0.01, 1e-5)], ids=["anomalib 1", "anomalib 2"])
@pytest.mark.parametrize(("dtype", "eps"), [(torch.float64, EPS), (torch.float32, SINGLE)])
def test_the_parameters_are_those_of_the_original(train, ridges, dtype, eps):
    x = torch.tensor(np.array(train), dtype=dtype)
    want_mean, want_inverse = (v.numpy() for v in Original(ridges)(x))
    mean, inverse = MultiVariateGaussian(reg_covar=sum(ridges)).forward(x)
    assert mean.dtype == want_mean.dtype
    assert_within(mean, want_mean, 30 * eps * np.abs(train).max())
    s = np.linalg.inv(want_inverse.astype(float))
    # its covariance has an error of n eps, which the inverse magnifies by the condition
    assert_within(inverse, want_inverse, 8 * inverse_bound(s, eps))


def test_scores_are_those_of_the_original(train):
    x = torch.tensor(np.array(train))
    mean, inverse = Original((0.01,))(x)
    delta = x.reshape(30, 8, 20).permute(2, 0, 1) - mean.T[:, None]
    want = torch.einsum("pnc,pcd,pnd->np", delta, inverse, delta).clamp(0).sqrt().numpy()
    got = MultiVariateGaussian().fit(x).mahalanobis(x).reshape(30, 20)
    s = np.linalg.inv(inverse.numpy())
    assert_within(got, want, 4 * distance_bound(s, want.T, 30 * np.abs(train).max()).T)


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
