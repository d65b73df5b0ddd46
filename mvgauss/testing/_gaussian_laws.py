"""Laws of an estimator that fits one Gaussian to each patch of ``(N, C, H, W)`` embeddings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from mvgauss.testing import _calls
from mvgauss.testing._bounds import cov_bound, mean_bound, pinv_bound
from mvgauss.testing._calls import Answer, Array, Subject, array_of, holds, within
from mvgauss.testing._cases import Dtype, frozen, root, table, these
from mvgauss.testing._laws import each, law
from mvgauss.testing._oracle_gaussian import exact_gaussian


def fitting(f: Subject, *before: Array) -> Subject:
    """Return the subject as a function of an embedding that gives the two parameters of a new model."""

    def fit(embedding: Any, **weights: Any) -> list[Array]:
        model = f.function()
        for other in before:
            model.fit(f.given(other))
        model.fit(embedding, **weights)
        return [_calls.as_numpy(value) for value in (model.mean, model.inv_covariance)]

    return Subject(fit, f.features, f.asarray)


def fitted(f: Subject, embedding: Array, *before: Array, **weights: Any) -> list[Answer]:
    """Return the mean and the inverse covariance of a new model after `fit`."""
    raw, told = fitting(f, *before).attempt(embedding, **weights)
    call = told.call.replace("f(", "factory().fit(", 1)
    names = ".mean", ".inv_covariance"
    return [array_of(v, told._replace(call=call + name)) for v, name in zip(raw, names, strict=True)]


def patches(embedding: Array) -> Array:
    """Return an embedding as a stack of samples ``(P, N, C)``."""
    return np.moveaxis(embedding.reshape(*embedding.shape[:2], -1), -1, 0)


def inverse_bound(embedding: Array, ridge: float, dtype: Dtype, w: Any = None) -> Array:
    """Bound the error of inverse covariances that come from an embedding."""
    error = np.linalg.norm(cov_bound(patches(embedding), fweights=w, dtype=dtype), axis=(-2, -1))
    s = exact_gaussian(embedding, ridge, sample_weight=w).covariance
    return pinv_bound(s, error=error, dtype=dtype)


def images(*shape: int, salt: int = 0) -> Array:
    """Return an embedding of whole numbers."""
    return table(shape[0], int(np.prod(shape[1:])), salt).reshape(shape)


def embeddings(dtype: Dtype) -> Iterator[Array]:
    """Yield embeddings from one patch of one feature on."""
    for shape in ((2, 1, 1, 1), (3, 2, 1, 2), (4, 2, 2, 3), (6, 3, 3, 2)):
        yield (images(*shape, salt=shape[0]) / 4).astype(dtype)


def inverse(f: Subject, dtype: Dtype, x: Array, ridge: float) -> None:
    """Hold inverse covariances against the exact ones."""
    within(fitted(f, x)[1], exact_gaussian(x, ridge).inv_covariance, inverse_bound(x, ridge, dtype))


def mean(f: Subject, dtype: Dtype, x: Array, ridge: float, *before: Array) -> None:
    """Hold means against the exact ones, also after fits to other embeddings."""
    bound = mean_bound(patches(x), dtype=dtype).T
    within(fitted(f, x, *before)[0], exact_gaussian(x, ridge).mean, bound)


def weighted(f: Subject, dtype: Dtype, x: Array, w: Any, ridge: float) -> None:
    """Hold means and inverse covariances of weighted images against the exact ones."""
    w = np.asarray(w, dtype)
    (mean, inverse), want = fitted(f, x, sample_weight=w), exact_gaussian(x, ridge, sample_weight=w)
    within(mean, want.mean, mean_bound(patches(x), dtype=dtype).T)
    within(inverse, want.inv_covariance, inverse_bound(x, ridge, dtype, w))


def unpacks(f: Subject, dtype: Dtype, x: Array, ridge: float) -> None:
    """Hold what fit returns to the two parameters of the model."""
    raw, told = Subject(lambda x: list(f.function().fit(x)), f.features, f.asarray).attempt(x)
    holds(told, len(raw) == 2, "two parameters", len(raw))
    for value, want in zip(raw, fitted(f, x), strict=True):
        within(array_of(value, told), want.value, 0)


def positive_definite(f: Subject, dtype: Dtype, x: Array, ridge: float) -> None:
    """Expect positive eigenvalues."""
    got = fitted(f, x)[1]
    values = np.linalg.eigvalsh(got.value.astype(np.float64))
    holds(got, (values > 0).all(), "eigenvalues > 0", values)


def single_in_double(f: Subject, dtype: Dtype, ridge: float) -> None:
    """Hold fits to embeddings in single precision against the bound of double."""
    eps = float(np.finfo(np.float32).eps)
    for x in embeddings(np.dtype(np.float32)):
        # features that nearly agree: their small difference is lost in single precision
        y = (300 + 40 / 7 * x[:, :1] + x / 3).astype(np.float32)
        want = exact_gaussian(y, ridge).inv_covariance
        norm = np.linalg.norm(want, 2, axis=(-2, -1))[:, None, None]
        # a result may be the product of a factor in single precision: C roundings of its norm
        within(fitted(f, y)[1], want, inverse_bound(y, ridge, dtype) + 2 * y.shape[1] * eps * norm)


# fmt: off
LAWS = (
    law("means_are_features_by_patches: Their shape is (C, P) with P = H W.", "", each(
        lambda f, d, x, ridge: _calls.shaped(fitted(f, x)[0], exact_gaussian(x).mean.shape), embeddings)),
    law("patches_are_numbered_row_by_row: Patch p = h W + w, and the mean is that of its patch.",
        "", each(mean, embeddings)),
    law("the_inverse_is_that_of_the_covariance_plus_ridge: Inverses (P, C, C) of S + ridge I, with divisor "
        "N - 1 and each patch alone.", "", each(inverse, embeddings)),
    law("a_constant_feature_has_the_ridge_as_variance: The ridge is absolute, and added once.",
        "", each(inverse, these(np.full((3, 2, 1, 1), 5.0)))),
    law("fewer_samples_than_features_are_fine", "", each(inverse, these(images(3, 5, 2, 1)))),
    law("an_offset_costs_no_digits: Each patch is centred before anything is multiplied.",
        "", each(inverse, lambda d: [(images(5, 2, 1, 2) + root(d) / 4).astype(d)])),
    law("what_fit_returns_unpacks_into_the_parameters: It gives the mean and the inverse covariance.",
        "unpacking", each(unpacks, embeddings)),
    law("fitting_again_replaces_the_first_fit", "", lambda f, d, ridge: mean(
        f, d, images(4, 2, 2, 1, salt=3).astype(d), ridge, images(5, 2, 2, 1).astype(d))),
    law("the_inverse_is_symmetric_to_the_last_bit", "symmetric", each(
        lambda f, d, x, ridge: _calls.hermitian(fitted(f, x)[1]), embeddings)),
    law("the_inverse_is_positive_definite: No direction has a negative squared distance.",
        "", each(positive_definite, embeddings)),
    law("a_single_sample_is_refused", "errors", each(
        lambda f, d, x, ridge: fitting(f).refuses(x), these(np.ones((1, 2, 1, 1))))),
    law("an_embedding_that_is_not_finite_is_refused", "errors", each(
        lambda f, d, x, ridge: fitting(f).refuses(x), these(*(
            images(3, 2, 1, 1) + np.array([0, v])[:, None, None] for v in (np.nan, np.inf))))),
    law("no_input_is_written_to", "", each(lambda f, d, x, ridge: fitting(f).keeps(x), embeddings)),
    law("read_only_inputs_are_accepted", "layouts", each(inverse, lambda d: map(frozen, embeddings(d)))),
    law("a_sample_weight_of_two_is_the_sample_twice: The divisor is the sum of the weights minus one.",
        "sample_weight", each(weighted, lambda d: ((x, np.arange(len(x)) % 3 + 1) for x in embeddings(d)))),
    law("sample_weights_may_be_fractional", "sample_weight", each(
        weighted, lambda d: ((x, 0.75 + np.arange(len(x)) / 4) for x in embeddings(d)))),
    law("a_sample_weight_of_zero_drops_the_sample", "sample_weight", each(
        weighted, lambda d: ((x, np.arange(len(x)) % 3) for x in embeddings(d) if len(x) > 3))),
    law("sample_weights_that_sum_to_one_are_refused: They count samples, and a single one has no covariance.",
        "sample_weight errors", each(
            lambda f, d, x, ridge: fitting(f).refuses(x, sample_weight=np.full(4, 0.25, d)),
            these(images(4, 2, 1, 1)))),
    law("results_have_the_dtype_of_the_embedding", "dtypes", each(
        lambda f, d, x, ridge: [_calls.typed(got, x.dtype) for got in fitted(f, x)],
        lambda d: [images(4, 2, 1, 1).astype(kind) for kind in (np.float32, np.float64)])),
    law("single_precision_is_computed_in_double: Only results are rounded to single.",
        "dtypes", single_in_double),
)

FEATURES = {
    "sample_weight": "`fit(embedding, sample_weight=...)`: a weight of 2 is the sample twice",
    "unpacking": "what `fit` returns unpacks into the mean and the inverse covariance",
    "symmetric": "inverse covariances equal their transposes to the last bit",
    "errors": "a single sample, NaN and infinities are errors",
    "dtypes": "single precision stays single, but is computed in double",
    "layouts": "read-only arrays",
}
