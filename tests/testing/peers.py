"""Other people's implementations, called as the kit calls: only names and axes are translated.

Nothing is repaired: what a peer does otherwise than numpy.cov stays, and is named in `test_peers`.
Those that are not installed are absent.
"""

import importlib
import warnings

import numpy as np

MISSING = {}


def imported(name):
    """Return a module, or None where it is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # their imports are not our business
            return importlib.import_module(name)
    except ImportError:
        MISSING[name] = True
        return None


torch = imported("torch")
xpx = imported("array_api_extra")
strict = imported("array_api_strict")
jax = imported("jax.numpy")
if jax is not None:
    imported("jax").config.update("jax_enable_x64", True)  # JAX has no double precision otherwise
sklearn = imported("sklearn.covariance")
pyriemann = imported("pyriemann.geometry.covariance") or imported("pyriemann.utils.covariance")
scipy = imported("scipy.linalg")


def correction_of(bias, ddof):
    """Return the one number that many libraries take for bias and ddof."""
    return (0 if bias else 1) if ddof is None else ddof


def in_columns(observations, rowvar):
    """Return samples in columns, as most libraries want them."""
    x = np.asarray(observations)
    return x if rowvar or x.ndim < 2 else np.swapaxes(x, -1, -2)


def given(**named):
    """Return the arguments that are not None."""
    return {k: v for k, v in named.items() if v is not None}


def numpy_loop(
    observations, rowvar=False, bias=False, ddof=None, aweights=None, *, fweights=None, dtype=None
):
    """Call numpy.cov on every item of a stack."""
    x = in_columns(observations, rowvar)
    options = {"bias": bias, "ddof": ddof, "dtype": dtype}
    if x.ndim < 3:
        return np.cov(x, aweights=aweights, fweights=fweights, **options)
    stack, (c, n) = x.shape[:-2], x.shape[-2:]
    w = {k: np.broadcast_to(v, (*stack, n)) for k, v in given(a=aweights, f=fweights).items()}
    items = [
        np.cov(x[i], **{f"{k}weights": v[i] for k, v in w.items()}, **options) for i in np.ndindex(stack)
    ]
    return np.reshape(items, (*stack, c, c))


def torch_cov(observations, rowvar=False, bias=False, ddof=None, aweights=None, *, fweights=None):
    """Call torch.cov with tensors."""
    x = observations if rowvar or observations.ndim < 2 else observations.mT
    return torch.cov(x, correction=correction_of(bias, ddof), aweights=aweights, fweights=fweights)


def jax_cov(observations, rowvar=False, **options):
    """Call jax.numpy.cov with JAX's arrays."""
    return jax.cov(observations, rowvar=rowvar, **options)


def extra_cov(observations, rowvar=False, bias=False, ddof=None, aweights=None, *, fweights=None):
    """Call the covariance of array-api-extra, with arrays of any kind."""
    return xpx.cov(
        observations,
        axis=-2 if observations.ndim > 1 and not rowvar else -1,
        correction=correction_of(bias, ddof),
        **given(aweights=aweights, fweights=fweights),
    )


def of_one_variable(result, x):
    """Return a 1 x 1 result as numpy.cov has it, 0-d where there is no stack."""
    return result[0, 0] if x.ndim < 3 and result.shape == (1, 1) else result


def sklearn_cov(observations, rowvar=False, bias=False, ddof=None):
    """Call scikit-learn's EmpiricalCovariance, whose divisor is N, and change the divisor."""
    x = np.atleast_2d(in_columns(observations, rowvar))
    n = x.shape[-1]
    result = sklearn.EmpiricalCovariance().fit(x.swapaxes(-1, -2)).covariance_
    return of_one_variable(result * (n / (n - correction_of(bias, ddof))), x)


def pyriemann_scm(observations, rowvar=False, bias=False, ddof=None, aweights=None):
    """Call pyRiemann's sample covariance, whose divisor is the sum of the weights, and change it."""
    x, lost = np.atleast_2d(in_columns(observations, rowvar)), correction_of(bias, ddof)
    w = np.ones(x.shape[-1]) if aweights is None else np.asarray(aweights, float)
    share = w / w.sum()
    result = pyriemann.covariance_scm(x, weights=aweights)
    return of_one_variable(result / (1 - lost * (share**2).sum()), x)


def pyriemann_cov(observations, rowvar=False, bias=False, ddof=None, *, dtype=None):
    """Call pyRiemann's covariances with NumPy's estimator."""
    x = np.atleast_2d(in_columns(observations, rowvar))
    options = given(bias=bias or None, ddof=ddof, dtype=dtype)
    return of_one_variable(pyriemann.covariances(x, estimator="cov", **options), x)


def original_cov(observations, rowvar=False, bias=False, ddof=None, aweights=None):
    """Estimate a covariance by the formulas of anomalib's class, in torch."""
    x = observations.reshape(-1, 1) if observations.ndim < 2 else observations
    x = x.T if rowvar and x.shape[0] != 1 else x
    ddof = correction_of(bias, ddof)
    if aweights is None:
        z, divisor = x - x.mean(dim=0), x.shape[0] - ddof
        weighted = z
    else:
        total = aweights.sum()
        z = x - (x * (aweights / total)[:, None]).sum(dim=0)
        divisor = total - ddof * (aweights * aweights).sum() / total if ddof else total
        weighted = torch.diag(aweights) @ z
    return (weighted.T @ z / divisor).squeeze()


def numpy_pinv(covariance, rtol=None):
    """Call numpy.linalg.pinv for Hermitian matrices."""
    return np.linalg.pinv(covariance, rtol=rtol, hermitian=True)


def scipy_pinvh(covariance, rtol=None, *, return_rank=False):
    """Call scipy.linalg.pinvh."""
    return scipy.pinvh(covariance, rtol=rtol, return_rank=return_rank)


def torch_pinv(covariance, rtol=None):
    """Call torch.linalg.pinv for Hermitian matrices."""
    return torch.linalg.pinv(covariance, rtol=rtol, hermitian=True)


class Original:
    """Fit by the formulas of anomalib's MultiVariateGaussian: a ridge of 0.01, in the input's precision."""

    def fit(self, embedding):
        n, c, h, w = embedding.shape
        x = embedding.reshape(n, c, h * w)
        self.mean = x.mean(dim=0)
        covariance = torch.zeros(c, c, h * w, dtype=x.dtype)
        for p in range(h * w):
            centred = x[:, :, p] - x[:, :, p].mean(dim=0, keepdim=True)
            covariance[:, :, p] = centred.T @ centred / (n - 1) + 0.01 * torch.eye(c, dtype=x.dtype)
        self.inv_covariance = torch.linalg.inv(covariance.permute(2, 0, 1))
        return [self.mean, self.inv_covariance]
