"""Right implementations, a step on each line: each mutant changes one of the lines."""

import warnings

import numpy as np


def cov(observations, rowvar=False, bias=False, ddof=None, aweights=None, *, fweights=None, dtype=None):
    """Return covariances as `mvgauss.cov` does."""
    given = np.asarray(observations)
    x = given.astype(np.result_type(given, np.float64) if dtype is None else dtype)
    x = x.reshape(-1, 1) if x.ndim < 2 else x.swapaxes(-1, -2) if rowvar else x
    ddof = (0 if bias else 1) if ddof is None else ddof
    f, a = weights(fweights, x, True), weights(aweights, x, False)
    w = f * a
    total = w.sum(axis=-1)
    first = x[..., :1, :]
    x = x - first
    mean = (w[..., None] * x).sum(axis=-2, keepdims=True) / total[..., None, None]
    z = x - mean
    scatter = product(z * np.sqrt(w)[..., None])
    divisor = total - ddof * (w * a).sum(axis=-1) / total
    if (divisor <= 0).any():
        warnings.warn("no degrees of freedom", RuntimeWarning, stacklevel=2)
    divisor = np.maximum(divisor, 0)
    out = scatter / divisor[..., None, None]
    return out[0, 0] if given.ndim < 3 and out.shape[-1] == 1 else out


def weights(given, x, whole):
    """Return weights (..., N) as numbers of the kind of the samples."""
    if given is None:
        return np.ones(x.shape[:-1], x.real.dtype)
    w = np.asarray(given)
    if w.shape[-1:] != x.shape[-2:-1]:
        raise ValueError("number of weights")
    if (w < 0).any():
        raise ValueError("negative")
    if not w.any(axis=-1).all():
        raise ValueError("all zero")
    if whole and (w != np.rint(w)).any():
        raise ValueError("fractional")
    w = w.astype(x.real.dtype)
    return np.broadcast_to(w, x.shape[:-1])


def product(z):
    """Return the sums of z_j conj(z_k), Hermitian to the last bit."""
    if z.dtype.kind != "c":
        return np.einsum("...ni,...nj->...ij", z, z)
    cross = np.einsum("...ni,...nj->...ij", z.imag, z.real)
    return product(z.real) + product(z.imag) + 1j * (cross - cross.swapaxes(-1, -2))


def pinv(covariance, rtol=None, *, return_rank=False):
    """Return pseudo-inverses as `mvgauss.pinv` does."""
    given = np.asarray(covariance)
    if given.shape[-1] != given.shape[-2]:
        raise ValueError("not square")
    if not np.isfinite(given).all():
        raise ValueError("not finite")
    if (given != given.swapaxes(-1, -2)).any():
        raise ValueError("not symmetric")
    s = given.astype(np.float64)
    values, vectors = np.linalg.eigh(s)
    eps = float(np.finfo(given.dtype if given.dtype.kind == "f" else float).eps)
    largest = np.abs(values).max(axis=-1, keepdims=True)
    if (values < -1e-3 * largest).any():
        raise ValueError("negative")
    keep = values > (s.shape[-1] * eps if rtol is None else rtol) * largest
    root = np.where(keep, 1 / np.sqrt(np.where(keep, np.abs(values), 1)), 0)
    u = root[..., :, None] * vectors.swapaxes(-1, -2)
    inverse = np.einsum("...ki,...kj->...ij", u, u)
    inverse = inverse.astype(np.float32 if given.dtype == np.float32 else np.float64)
    return (inverse, keep.sum(axis=-1)) if return_rank else inverse


def mahalanobis(x, mean, inv_covariance, *, squared=False):
    """Return distances as `mvgauss.mahalanobis` does."""
    x, mean, p = np.asarray(x), np.asarray(mean), np.asarray(inv_covariance)
    if not x.shape[-1] == mean.shape[-1] == p.shape[-1]:
        raise ValueError("features")
    dtype = np.result_type(x, mean, p)
    z = np.atleast_2d(x).astype(float) - mean.astype(float)[..., None, :]
    d = np.einsum("...ni,...ij,...nj->...n", z, p.astype(float), z)
    d = np.maximum(d, 0)
    d = d if squared else np.sqrt(d)
    d = d.astype(dtype)
    return d if x.ndim > 1 else d[..., 0]


class Gaussian:
    """One Gaussian for each patch, with a ridge of 0.01."""

    def fit(self, embedding, sample_weight=None):
        """Return the mean and the inverse covariance."""
        given = np.asarray(embedding)
        if len(given) < 2:
            raise ValueError("one sample")
        if np.isnan(given).any() or np.isinf(given).any():
            raise ValueError("not finite")
        x = stacked(given.astype(float))
        w = np.ones(len(given)) if sample_weight is None else np.asarray(sample_weight, float)
        if w.sum() <= 1:
            raise ValueError("sample_weight")
        mean = np.average(x, axis=1, weights=w, keepdims=True)
        z = x - mean
        s = np.einsum("n,pni,pnj->pij", w, z, z) / (w.sum() - 1)
        s = s + 0.01 * np.eye(s.shape[-1])
        self.u = np.linalg.inv(np.linalg.cholesky(s))
        inverse = np.einsum("pki,pkj->pij", self.u, self.u)
        self.shape, self.exact = given.shape[1:], mean
        kind = given.dtype if given.dtype == np.float32 else np.float64
        self.mean, self.inv_covariance = mean[:, 0].T.astype(kind), inverse.astype(kind)
        return self.mean, self.inv_covariance

    def mahalanobis(self, embedding):
        """Return the distances (M, H, W)."""
        images = np.asarray(embedding)
        if images.shape[1:] != self.shape:
            raise ValueError("shape")
        if not np.isfinite(images).all():
            raise ValueError("not finite")
        z = stacked(images.astype(float)) - self.exact
        y = np.einsum("pij,pnj->pni", self.u, z)
        d = np.sqrt((y * y).sum(axis=-1))
        return d.T.reshape(len(images), *self.shape[1:])


def stacked(embedding):
    """Return an embedding (N, C, H, W) as samples (P, N, C)."""
    return np.moveaxis(embedding.reshape(*embedding.shape[:2], -1), -1, 0)
