"""Laws of covariances: what the numbers are."""

from __future__ import annotations

import numpy as np

from mvgauss.testing._bounds import cov_bound
from mvgauss.testing._cases import (
    SIZES,
    Dtype,
    aweights,
    complex_of,
    complex_samples,
    samples,
    stacks,
    table,
    weights,
)
from mvgauss.testing._cov_weights import exact
from mvgauss.testing._laws import (
    Answer,
    Array,
    Implementation,
    answer,
    equal,
    hermitian,
    within,
)


def samples_are_in_rows(cov: Implementation, dtype: Dtype) -> None:
    """By default the samples are the rows, the features the columns."""
    for x in samples(dtype):
        exact(cov, dtype, x)


def rowvar_puts_samples_in_columns(cov: Implementation, dtype: Dtype) -> None:
    """With rowvar=True the samples are the columns; a last axis of one is then one sample."""
    for x in samples(dtype):
        exact(cov, dtype, np.ascontiguousarray(x.T), rowvar=True)


def a_linear_map_of_the_data_maps_both_sides(cov: Implementation, dtype: Dtype) -> None:
    """Data mapped by A have the covariance A S A^T."""
    m = np.array([[2.0, 0.0, 1.0], [0.0, -1.0, 0.0], [4.0, 1.0, 0.0]])
    for n in (4, 9):
        # whole numbers, so that y is exact and so is A S A^T
        exact(cov, dtype, (table(n, 3) @ m.T).astype(dtype))


def data_far_from_zero_are_not_squared(cov: Implementation, dtype: Dtype) -> None:
    """An offset of the data costs at most its own digits, not those of its square: no one-pass formula."""
    for x in (table(n, c) for n, c in SIZES[1:]):
        exact(cov, dtype, (x + _far(dtype)).astype(dtype), streamed=True)


def the_offset_of_the_data_costs_no_digits(cov: Implementation, dtype: Dtype) -> None:
    """The mean is subtracted before anything is multiplied: two passes, no running updates."""
    for x in (table(n, c) for n, c in SIZES[1:]):
        exact(cov, dtype, (x + _far(dtype)).astype(dtype))


def the_offset_of_weighted_data_does_not_either(cov: Implementation, dtype: Dtype) -> None:
    """With aweights too, the weighted mean is subtracted before anything is multiplied."""
    for x in (table(n, c) for n, c in SIZES[1:]):
        exact(cov, dtype, (x + _far(dtype)).astype(dtype), aweights=aweights(len(x), dtype))


def _far(dtype: Dtype) -> float:
    """Return an offset whose square has some more bits than the dtype."""
    return float(2.0 ** (int(np.finfo(dtype).nmant) // 2 + 2) + 0.25)


def a_scale_of_the_data_scales_its_square(cov: Implementation, dtype: Dtype) -> None:
    """Small and large data keep all digits: nothing is added to a covariance."""
    for scale in (2.0**-10, 2.0**-20, 2.0**20):
        for x in samples(dtype):
            exact(cov, dtype, (x * scale).astype(dtype))


def a_constant_feature_has_no_variance(cov: Implementation, dtype: Dtype) -> None:
    """A feature that never changes has variance and covariances of zero: no hidden ridge."""
    x = np.array([[1.0, 3.0], [2.0, 3.0], [4.0, 3.0], [0.0, 3.0]], dtype)
    got = exact(cov, dtype, x)
    equal(got._replace(value=got.value[1]), np.zeros(2), "exact zeros for the feature that is 3 throughout")


def more_features_than_samples_are_fine(cov: Implementation, dtype: Dtype) -> None:
    """With N <= C the covariance is singular, and right."""
    for n, c in ((2, 3), (3, 5), (2, 8)):
        exact(cov, dtype, (table(n, c) / 7).astype(dtype))


def complex_data_conjugate_the_second_factor(cov: Implementation, dtype: Dtype) -> None:
    """For complex data entry j, k is the sum of z_j conj(z_k)."""
    for x in complex_samples(dtype):
        exact(cov, complex_of(dtype), x)


def complex_data_may_have_aweights(cov: Implementation, dtype: Dtype) -> None:
    """Aweights of complex data are real, and weigh z_j conj(z_k)."""
    for x in complex_samples(dtype):
        exact(cov, complex_of(dtype), x, aweights=aweights(len(x), dtype))


def complex_variances_are_real(cov: Implementation, dtype: Dtype) -> None:
    """The diagonal for complex data is real, and positive."""
    for x in complex_samples(dtype):
        got = answer(cov, x)
        diagonal = np.diagonal(np.atleast_2d(got.value))
        off = np.diagonal(np.atleast_2d(cov_bound(x, dtype=dtype)))
        within(got._replace(value=np.asarray(diagonal.imag)), np.zeros(len(diagonal)), off)


def each_item_of_a_stack_is_a_call_of_its_own(cov: Implementation, dtype: Dtype) -> None:
    """In a stack cov(x)[i] is cov(x[i]): with its own mean, its own divisor."""
    for x in stacks(dtype):
        exact(cov, dtype, x)
        exact(cov, dtype, np.ascontiguousarray(x.swapaxes(-1, -2)), rowvar=True, ddof=0)


def aweights_serve_every_item_of_a_stack(cov: Implementation, dtype: Dtype) -> None:
    """Aweights of shape (N,) are those of each item."""
    for x in stacks(dtype):
        exact(cov, dtype, x, **weights(x.shape[-2], dtype, "a"))


def fweights_serve_every_item_of_a_stack(cov: Implementation, dtype: Dtype) -> None:
    """Fweights of shape (N,) are those of each item, alone and with aweights."""
    for x in stacks(dtype):
        for kinds in ("f", "fa"):
            exact(cov, dtype, x, **weights(x.shape[-2], dtype, kinds))


def aweights_may_differ_between_items(cov: Implementation, dtype: Dtype) -> None:
    """Aweights of shape (..., N) belong to their items."""
    for x in stacks(dtype):
        exact(cov, dtype, x, aweights=_of_items(x).astype(dtype))


def fweights_may_differ_between_items(cov: Implementation, dtype: Dtype) -> None:
    """Fweights of shape (..., N) belong to their items."""
    for x in stacks(dtype):
        exact(cov, dtype, x, fweights=_of_items(x))


def _of_items(x: Array) -> Array:
    """Return weights that differ between the items of a stack."""
    return np.asarray(1 + np.arange(x[..., 0].size) % 5).reshape(x.shape[:-1])


def the_result_is_symmetric_to_the_last_bit(cov: Implementation, dtype: Dtype) -> None:
    """Without weights, real covariances equal their transposes exactly."""
    for x in (*samples(dtype), (table(16, 6) / 7).astype(dtype), (table(40, 9) / 7).astype(dtype)):
        hermitian(_square(answer(cov, x)))


def weighted_and_complex_results_are_too(cov: Implementation, dtype: Dtype) -> None:
    """With weights, and for complex data, covariances equal their conjugate transposes exactly."""
    for n, c in (*SIZES[1:], (16, 6), (40, 9)):
        x = (table(n, c) / 7).astype(dtype)
        hermitian(_square(answer(cov, x, aweights=(1 + np.arange(n) / 7).astype(dtype))))
    for z in complex_samples(dtype):
        hermitian(_square(answer(cov, z)))


def _square(got: Answer) -> Answer:
    """Return a scalar as a matrix."""
    return got._replace(value=np.atleast_2d(got.value))


LAWS = (
    samples_are_in_rows,
    rowvar_puts_samples_in_columns,
    a_linear_map_of_the_data_maps_both_sides,
    data_far_from_zero_are_not_squared,
    the_offset_of_the_data_costs_no_digits,
    the_offset_of_weighted_data_does_not_either,
    a_scale_of_the_data_scales_its_square,
    a_constant_feature_has_no_variance,
    more_features_than_samples_are_fine,
    complex_data_conjugate_the_second_factor,
    complex_data_may_have_aweights,
    complex_variances_are_real,
    each_item_of_a_stack_is_a_call_of_its_own,
    aweights_serve_every_item_of_a_stack,
    fweights_serve_every_item_of_a_stack,
    aweights_may_differ_between_items,
    fweights_may_differ_between_items,
    the_result_is_symmetric_to_the_last_bit,
)
#: Laws that numpy.cov itself does not keep.
BEYOND_NUMPY = (weighted_and_complex_results_are_too,)
