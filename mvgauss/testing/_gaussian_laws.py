"""Laws of an estimator that fits one Gaussian to each patch of ``(N, C, H, W)`` embeddings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from mvgauss.testing._bounds import cov_bound, mean_bound
from mvgauss.testing._cases import Dtype, frozen, table
from mvgauss.testing._inverse_bounds import pinv_bound
from mvgauss.testing._laws import (
    Answer,
    Array,
    BrokenError,
    answer,
    attempt,
    hermitian,
    refused,
    shaped,
    typed,
    unchanged,
    within,
)
from mvgauss.testing._oracle import exact_cov
from mvgauss.testing._oracle_gaussian import exact_gaussian

Factory = Callable[[], Any]


def fitted(factory: Factory, embedding: Array) -> tuple[Answer, Answer]:
    """Return the mean and the inverse covariance of a new model after `fit`."""

    def fit(embedding: Array) -> Any:
        model = factory()
        model.fit(embedding)
        return np.asarray(model.mean), np.asarray(model.inv_covariance)

    (mean, inverse), told = attempt(fit, embedding)
    call = told.call.replace("f(", "factory().fit(", 1)
    return told._replace(value=mean, call=call + ".mean"), told._replace(
        value=inverse, call=call + ".inv_covariance"
    )


def parameters(factory: Factory, embedding: Array) -> list[Array]:
    """Return the parameters of a new model, as they are."""
    return [got.value for got in fitted(factory, embedding)]


def regularised(embedding: Array, ridge: float) -> Array:
    """Return the covariances ``(P, C, C)`` whose inverses are asked for."""
    x = np.moveaxis(embedding.reshape(*embedding.shape[:2], -1), -1, 0)
    s: Array = exact_cov(x) + ridge * np.eye(x.shape[-1])
    return s


def inverse_bound(embedding: Array, ridge: float, dtype: Dtype) -> Array:
    """Bound the error of inverse covariances that come from an embedding."""
    x = np.moveaxis(embedding.reshape(*embedding.shape[:2], -1), -1, 0)
    error = np.linalg.norm(cov_bound(x, dtype=dtype), axis=(-2, -1))
    return pinv_bound(regularised(embedding, ridge), error=error, dtype=dtype)


def embeddings(dtype: Dtype) -> Iterator[Array]:
    """Yield embeddings from one patch of one feature on."""
    for n, c, h, w in ((2, 1, 1, 1), (3, 2, 1, 2), (4, 2, 2, 3), (6, 3, 3, 2)):
        yield (table(n, c * h * w, n) / 4).reshape(n, c, h, w).astype(dtype)


def the_mean_is_features_by_patches(factory: Factory, dtype: Dtype, ridge: float) -> None:
    """Means have the shape (C, P) with P = H W."""
    for x in embeddings(dtype):
        got, _ = fitted(factory, x)
        shaped(got, (x.shape[1], x.shape[2] * x.shape[3]))


def patches_are_counted_by_rows(factory: Factory, dtype: Dtype, ridge: float) -> None:
    """Patch p = h W + w: the grid is row-major; and the mean is that of its patch."""
    for x in embeddings(dtype):
        got, _ = fitted(factory, x)
        bound = mean_bound(np.moveaxis(x.reshape(*x.shape[:2], -1), -1, 0), dtype=dtype).T
        within(got, exact_gaussian(x, ridge)[0], bound)


def the_inverse_is_that_of_the_ridged_covariance(factory: Factory, dtype: Dtype, ridge: float) -> None:
    """Inverse covariances (P, C, C) are those of S + ridge I, with divisor N - 1 and each patch alone."""
    for x in embeddings(dtype):
        _, got = fitted(factory, x)
        within(got, exact_gaussian(x, ridge)[1], inverse_bound(x, ridge, dtype))


def a_constant_feature_has_the_ridge_as_variance(factory: Factory, dtype: Dtype, ridge: float) -> None:
    """Where nothing varies the inverse covariance is 1 / ridge: the ridge is absolute, and added once."""
    x = np.full((3, 2, 1, 1), 5.0, dtype)
    _, got = fitted(factory, x)
    within(got, np.eye(2)[None] / ridge, inverse_bound(x, ridge, dtype))


def fewer_samples_than_features_are_fine(factory: Factory, dtype: Dtype, ridge: float) -> None:
    """The ridge makes every covariance regular, also for N <= C."""
    x = table(3, 10).reshape(3, 5, 2, 1).astype(dtype)
    _, got = fitted(factory, x)
    within(got, exact_gaussian(x, ridge)[1], inverse_bound(x, ridge, dtype))


def an_offset_costs_no_digits(factory: Factory, dtype: Dtype, ridge: float) -> None:
    """Each patch is centred before anything is multiplied."""
    far = 2.0 ** (int(np.finfo(dtype).nmant) // 2 - 2)
    x = (table(5, 4).reshape(5, 2, 1, 2) + far).astype(dtype)
    _, got = fitted(factory, x)
    within(got, exact_gaussian(x, ridge)[1], inverse_bound(x, ridge, dtype))


def fit_gives_both_parameters(factory: Factory, dtype: Dtype, ridge: float) -> None:
    """What fit returns unpacks into the mean and the inverse covariance."""
    for x in embeddings(dtype):
        raw, told = attempt(lambda x: [np.asarray(v) for v in factory().fit(x)], x)
        if len(raw) != 2:
            raise BrokenError(told.call, "two parameters", len(raw))
        mean, inverse = fitted(factory, x)
        for value, want in zip(raw, (mean, inverse), strict=True):
            within(told._replace(value=value), want.value, 0)


def fitting_again_forgets(factory: Factory, dtype: Dtype, ridge: float) -> None:
    """A second fit is a first one."""
    first, second = table(5, 4).reshape(5, 2, 2, 1).astype(dtype), table(4, 4, 3).reshape(4, 2, 2, 1)

    def twice(x: Array) -> Array:
        model = factory()
        model.fit(first.copy())
        model.fit(x)
        return np.asarray(model.mean)

    bound = mean_bound(np.moveaxis(second.reshape(4, 2, -1), -1, 0), dtype=dtype).T
    within(answer(twice, second.astype(dtype)), exact_gaussian(second, ridge)[0], bound)


def the_inverse_is_symmetric_to_the_last_bit(factory: Factory, dtype: Dtype, ridge: float) -> None:
    """Inverse covariances equal their transposes exactly."""
    for x in embeddings(dtype):
        hermitian(fitted(factory, x)[1])


def the_inverse_is_positive_definite(factory: Factory, dtype: Dtype, ridge: float) -> None:
    """No direction has a negative squared distance."""
    for x in embeddings(dtype):
        _, got = fitted(factory, x)
        values = np.linalg.eigvalsh(got.value.astype(np.float64))
        if not (values > 0).all():
            raise BrokenError(got.call, "eigenvalues > 0", values)


def too_few_samples_are_refused(factory: Factory, dtype: Dtype, ridge: float) -> None:
    """One sample has no covariance: an error, and no NaN in a model."""
    refused(lambda x: parameters(factory, x), np.ones((1, 2, 1, 1), dtype))


def what_is_not_finite_is_refused(factory: Factory, dtype: Dtype, ridge: float) -> None:
    """A NaN or an infinity in an embedding is an error, and gets into no model."""
    for bad in (np.nan, np.inf):
        x = table(3, 2).reshape(3, 2, 1, 1).astype(dtype)
        x[1, 1] = bad
        refused(lambda x: parameters(factory, x), x)


def no_input_is_written_to(factory: Factory, dtype: Dtype, ridge: float) -> None:
    """The embedding is the same after a fit as before."""
    for x in embeddings(dtype):
        unchanged(lambda x: factory().fit(x), x)


def read_only_inputs_are_accepted(factory: Factory, dtype: Dtype, ridge: float) -> None:
    """An embedding that cannot be written to is as good as another."""
    for x in embeddings(dtype):
        _, got = fitted(factory, frozen(x))
        within(got, exact_gaussian(x, ridge)[1], inverse_bound(x, ridge, dtype))


def results_have_the_dtype_of_the_embedding(factory: Factory, dtype: Dtype, ridge: float) -> None:
    """Results for single precision are single, for double double."""
    for given in (np.float32, np.float64):
        for got in fitted(factory, table(4, 2).reshape(4, 2, 1, 1).astype(given)):
            typed(got, given)


def single_precision_is_computed_in_double(factory: Factory, dtype: Dtype, ridge: float) -> None:
    """An embedding in single precision is fitted in double; only results are rounded to single."""
    eps = float(np.finfo(np.float32).eps)
    for x in embeddings(np.dtype(np.float32)):
        # features that nearly agree: their small difference is lost in single precision
        y = (300 + 40 / 7 * x[:, :1] + x / 3).astype(np.float32)
        _, got = fitted(factory, y)
        want = exact_gaussian(y, ridge)[1]
        c, norm = y.shape[1], np.linalg.norm(want, 2, axis=(-2, -1))[:, None, None]
        # a result may be the product of a factor in single precision: C roundings of its norm
        within(got, want, inverse_bound(y, ridge, dtype) + 2 * c * eps * norm)


LAWS = (
    the_mean_is_features_by_patches,
    patches_are_counted_by_rows,
    the_inverse_is_that_of_the_ridged_covariance,
    a_constant_feature_has_the_ridge_as_variance,
    fewer_samples_than_features_are_fine,
    an_offset_costs_no_digits,
    fit_gives_both_parameters,
    fitting_again_forgets,
    the_inverse_is_symmetric_to_the_last_bit,
    the_inverse_is_positive_definite,
    too_few_samples_are_refused,
    what_is_not_finite_is_refused,
    no_input_is_written_to,
    read_only_inputs_are_accepted,
)
#: Laws of an implementation in double precision.
DOUBLE = (results_have_the_dtype_of_the_embedding, single_precision_is_computed_in_double)
