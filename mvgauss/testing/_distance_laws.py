"""Laws of Mahalanobis distances."""

from __future__ import annotations

from typing import Any

import numpy as np

from mvgauss.testing._cases import Dtype, frozen, rotated, table
from mvgauss.testing._inverse_bounds import distance_bound
from mvgauss.testing._laws import (
    Answer,
    Array,
    BrokenError,
    Implementation,
    answer,
    equal,
    refused,
    typed,
    unchanged,
    within,
)
from mvgauss.testing._oracle_gaussian import exact_mahalanobis


def exact(
    mahalanobis: Implementation, dtype: Dtype, x: Array, mean: Array, inverse: Array, **how: Any
) -> Answer:
    """Hold one call against the exact distances."""
    got = answer(mahalanobis, x, mean, inverse, **how)
    want = exact_mahalanobis(x, mean, inverse, **how, dtype=np.float64)
    within(got, want, distance_bound(x, mean, inverse, **how, dtype=dtype))
    return got


def the_distance_is_the_root(mahalanobis: Implementation, dtype: Dtype) -> None:
    """By default distances are roots, in standard deviations."""
    exact(mahalanobis, dtype, np.array([[3.0], [0.5]], dtype), np.zeros(1, dtype), np.eye(1, dtype=dtype))
    x, mean = (table(5, 4) / 7).astype(dtype), table(1, 4)[0].astype(dtype)
    for values in ((1.0, 1.0, 1.0, 1.0), (4.0, 1.0, 0.5, 0.25), (1.0, 0.5, 0.0, 0.0)):
        exact(mahalanobis, dtype, x, mean, rotated(values, dtype))


def squared_gives_the_square(mahalanobis: Implementation, dtype: Dtype) -> None:
    """With squared=True they are squares."""
    x, mean = table(4, 4).astype(dtype), np.ones(4, dtype)
    exact(mahalanobis, dtype, x, mean, rotated((4.0, 1.0, 0.5, 0.25), dtype), squared=True)


def with_the_identity_it_is_euclidean(mahalanobis: Implementation, dtype: Dtype) -> None:
    """With the identity as inverse covariance the distance is that of Euclid: 3, 4, 5."""
    exact(mahalanobis, dtype, np.array([[3.0, 4.0]], dtype), np.zeros(2, dtype), np.eye(2, dtype=dtype))


def the_matrix_is_the_inverse(mahalanobis: Implementation, dtype: Dtype) -> None:
    """The third argument is the inverse covariance, not the covariance."""
    exact(mahalanobis, dtype, np.ones((1, 2), dtype), np.zeros(2, dtype), np.diag([4.0, 9.0]).astype(dtype))


def a_distance_is_never_negative_or_nan(mahalanobis: Implementation, dtype: Dtype) -> None:
    """Where the matrix is singular to rounding, distances near zero are >= 0, and none is NaN."""
    v = np.array([3.0, -1.0, 2.0, 7.0]) / 7
    p = np.outer(v, v).astype(dtype)
    p = ((p + p.T) / 2).astype(dtype)
    x = (table(20, 4) - (table(20, 4) @ v)[:, None] * v / (v @ v)).astype(dtype)
    for squared in (False, True):
        got = answer(mahalanobis, x, np.zeros(4, dtype), p, squared=squared)
        if not (got.value >= 0).all():
            raise BrokenError(got.call, "distances >= 0", got.value)


def the_mean_has_distance_zero(mahalanobis: Implementation, dtype: Dtype) -> None:
    """A sample at the mean has the distance 0, exactly."""
    x = (table(1, 3) / 7).astype(dtype)
    equal(answer(mahalanobis, x, x[0], np.eye(3, dtype=dtype)), [0.0], "exactly")


def an_offset_costs_no_digits(mahalanobis: Implementation, dtype: Dtype) -> None:
    """The mean is subtracted before anything is multiplied."""
    far = 2.0 ** (int(np.finfo(dtype).nmant) // 2)
    x, mean = (table(4, 4) + far).astype(dtype), np.full(4, far, dtype)
    exact(mahalanobis, dtype, x, mean, rotated((4.0, 1.0, 0.5, 0.25), dtype))


def a_vector_is_one_sample(mahalanobis: Implementation, dtype: Dtype) -> None:
    """For x of shape (C,) the distance is 0-d."""
    exact(mahalanobis, dtype, np.array([3.0, 4.0], dtype), np.zeros(2, dtype), np.eye(2, dtype=dtype))


def a_stack_of_samples_meets_its_own_gaussian(mahalanobis: Implementation, dtype: Dtype) -> None:
    """Stacks (B, N, C), (B, C) and (B, C, C) are a loop over B; a stack of one keeps its axis."""
    for b in (1, 2):
        x = np.array([table(3, 4, i) for i in range(b)], dtype)
        mean = np.array([table(1, 4, i + 5)[0] for i in range(b)], dtype)
        p = np.array([rotated((4.0, 1.0, 0.5, 0.25 + i), dtype) for i in range(b)])
        exact(mahalanobis, dtype, x, mean, p)


def what_does_not_fit_is_refused(mahalanobis: Implementation, dtype: Dtype) -> None:
    """Samples, mean and matrix have the same number of features; one is not stretched to many."""
    one, two = np.eye(2, dtype=dtype), np.eye(3, dtype=dtype)
    refused(mahalanobis, np.ones((2, 3), dtype), np.zeros(2, dtype), one)
    refused(mahalanobis, np.ones((2, 1), dtype), np.zeros(3, dtype), two)
    refused(mahalanobis, np.ones((2, 3), dtype), np.zeros(1, dtype), two)


def no_input_is_written_to(mahalanobis: Implementation, dtype: Dtype) -> None:
    """Samples, mean and matrix are the same after a call as before."""
    unchanged(mahalanobis, table(3, 2).astype(dtype), np.ones(2, dtype), np.eye(2, dtype=dtype))


def read_only_inputs_are_accepted(mahalanobis: Implementation, dtype: Dtype) -> None:
    """Arrays that cannot be written to are as good as others."""
    given = np.ones((1, 2), dtype), np.zeros(2, dtype), np.eye(2, dtype=dtype)
    exact(mahalanobis, dtype, *(frozen(a) for a in given))


def the_dtype_is_that_of_the_data(mahalanobis: Implementation, dtype: Dtype) -> None:
    """Single precision gives single, double double."""
    for given in (np.float32, np.float64):
        got = answer(mahalanobis, np.ones((1, 2), given), np.zeros(2, given), np.eye(2, dtype=given))
        typed(got, given)


LAWS = (
    the_distance_is_the_root,
    squared_gives_the_square,
    with_the_identity_it_is_euclidean,
    the_matrix_is_the_inverse,
    a_distance_is_never_negative_or_nan,
    the_mean_has_distance_zero,
    an_offset_costs_no_digits,
    a_vector_is_one_sample,
    a_stack_of_samples_meets_its_own_gaussian,
    what_does_not_fit_is_refused,
    no_input_is_written_to,
    read_only_inputs_are_accepted,
)
#: Laws of an implementation in double precision.
DOUBLE = (the_dtype_is_that_of_the_data,)
