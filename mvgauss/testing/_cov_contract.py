"""Laws of covariances: shapes, dtypes, what is refused, and what is left alone."""

from __future__ import annotations

import numpy as np

from mvgauss.testing._bounds import cov_bound
from mvgauss.testing._cases import THREE, Dtype, aweights, frozen, fweights, samples, table
from mvgauss.testing._cov_weights import exact
from mvgauss.testing._laws import (
    BrokenError,
    Implementation,
    answer,
    attempt,
    equal,
    refused,
    shaped,
    typed,
    unchanged,
    within,
)
from mvgauss.testing._oracle import exact_cov


def a_stack_of_one_keeps_its_axis(cov: Implementation, dtype: Dtype) -> None:
    """Observations (1, N, C) give (1, C, C), and (1, 1, N, C) give (1, 1, C, C)."""
    for stack in ((1,), (1, 1), (2, 1)):
        exact(cov, dtype, np.broadcast_to(THREE, (*stack, 3, 2)).astype(dtype))


def one_feature_in_a_stack_keeps_its_axes(cov: Implementation, dtype: Dtype) -> None:
    """Observations (B, N, 1) give (B, 1, 1), also for B = 1."""
    for b in (1, 2):
        exact(cov, dtype, np.broadcast_to(THREE[:, :1], (b, 3, 1)).astype(dtype))


def one_variable_gives_a_scalar(cov: Implementation, dtype: Dtype) -> None:
    """Without a stack, (N,) and (N, 1) give a 0-d result."""
    for x in (THREE[:, 0], THREE[:, :1]):
        shaped(answer(cov, x.astype(dtype)), ())


def a_vector_is_one_variable(cov: Implementation, dtype: Dtype) -> None:
    """Observations (N,) are N samples of one feature, whatever rowvar says."""
    for rowvar in (False, True):
        exact(cov, dtype, np.array([1.0, 2.0, 4.0], dtype), rowvar=rowvar)


def one_row_is_one_sample(cov: Implementation, dtype: Dtype) -> None:
    """Observations (1, C) are one sample: C x C, NaN with ddof=1 and zeros with ddof=0."""
    exact(cov, dtype, THREE[1:2].astype(dtype))
    exact(cov, dtype, THREE[1:2].astype(dtype), ddof=0)


def no_samples_give_nan(cov: Implementation, dtype: Dtype) -> None:
    """Observations (0, C) give C x C of NaN."""
    exact(cov, dtype, np.zeros((0, 2), dtype))


def no_features_give_an_empty_matrix(cov: Implementation, dtype: Dtype) -> None:
    """Observations (N, 0) give a result of shape (0, 0)."""
    shaped(answer(cov, np.zeros((3, 0), dtype)), (0, 0))


def no_degrees_of_freedom_give_inf_or_nan(cov: Implementation, dtype: Dtype) -> None:
    """A divisor <= 0 counts as zero: infinities, and NaN for 0/0; never a negative variance."""
    x = THREE.astype(dtype)
    for ddof in (3, 4):
        exact(cov, dtype, x, ddof=ddof)


def weight_on_a_single_row_gives_nan(cov: Implementation, dtype: Dtype) -> None:
    """With all aweight on one sample nothing is left to estimate from: 0/0."""
    exact(cov, dtype, THREE.astype(dtype), aweights=np.array([0.0, 1.0, 0.0], dtype))


def no_degrees_of_freedom_warn(cov: Implementation, dtype: Dtype) -> None:
    """A divisor <= 0 is told of by a RuntimeWarning."""
    got = answer(cov, THREE.astype(dtype), ddof=3)
    if not any(issubclass(category, RuntimeWarning) for category in got.warnings):
        raise BrokenError(got.call, "a RuntimeWarning", [w.__name__ for w in got.warnings] or "no warning")


def enough_degrees_of_freedom_do_not_warn(cov: Implementation, dtype: Dtype) -> None:
    """A covariance that is well defined comes without a warning."""
    got = answer(cov, THREE.astype(dtype), ddof=0)
    if got.warnings:
        raise BrokenError(got.call, "no warning", [w.__name__ for w in got.warnings])


def nan_spreads_to_its_row_and_column(cov: Implementation, dtype: Dtype) -> None:
    """A NaN or an infinity makes the row and the column of its feature NaN, and no other."""
    for bad in (np.nan, np.inf):
        x = table(4, 3).astype(dtype)
        x[1, 2] = bad
        exact(cov, dtype, x)


def nan_stays_in_its_item(cov: Implementation, dtype: Dtype) -> None:
    """A NaN in one item of a stack leaves the others alone."""
    x = np.stack([table(4, 2), table(4, 2, 1)]).astype(dtype)
    x[0, 1, 1] = np.nan
    exact(cov, dtype, x)


def negative_weights_are_refused(cov: Implementation, dtype: Dtype) -> None:
    """A weight < 0 is an error."""
    refused(cov, THREE.astype(dtype), aweights=np.array([1.0, -1.0, 1.0], dtype))
    refused(cov, THREE.astype(dtype), fweights=np.array([1, -1, 1]))


def fractional_fweights_are_refused(cov: Implementation, dtype: Dtype) -> None:
    """An fweight of 1.5 is an error: nothing occurs one and a half times."""
    refused(cov, THREE.astype(dtype), fweights=np.array([1.0, 1.5, 1.0], dtype))


def weights_of_another_length_are_refused(cov: Implementation, dtype: Dtype) -> None:
    """There is one weight for each sample."""
    for n in (1, 2, 4):
        refused(cov, THREE.astype(dtype), aweights=np.ones(n, dtype))
        refused(cov, THREE.astype(dtype), fweights=np.ones(n, np.intp))


def weights_that_are_all_zero_are_refused(cov: Implementation, dtype: Dtype) -> None:
    """Without any weight there is no mean."""
    refused(cov, THREE.astype(dtype), aweights=np.zeros(3, dtype))
    refused(cov, THREE.astype(dtype), fweights=np.zeros(3, np.intp))


def no_input_is_written_to(cov: Implementation, dtype: Dtype) -> None:
    """Observations are the same after a call as before."""
    unchanged(cov, THREE.astype(dtype))


def no_aweights_are_written_to(cov: Implementation, dtype: Dtype) -> None:
    """Observations and aweights are the same after a call as before."""
    unchanged(cov, THREE.astype(dtype), aweights=aweights(3, dtype))


def no_fweights_are_written_to(cov: Implementation, dtype: Dtype) -> None:
    """Fweights are the same after a call as before."""
    unchanged(cov, THREE.astype(dtype), fweights=fweights(3))


def read_only_inputs_are_accepted(cov: Implementation, dtype: Dtype) -> None:
    """Arrays that cannot be written to are as good as others, and come without a warning."""
    got = answer(cov, frozen(THREE.astype(dtype)))
    within(got, exact_cov(THREE), cov_bound(THREE, dtype=dtype))
    if got.warnings:
        raise BrokenError(got.call, "no warning", [w.__name__ for w in got.warnings])


def layouts_change_nothing(cov: Implementation, dtype: Dtype) -> None:
    """C order, Fortran order, strides of any sign and foreign byte order hold the same numbers."""
    x = (table(5, 3) / 7).astype(dtype)
    wide = np.zeros((10, 6), dtype)
    wide[::2, ::2] = x
    for y in (
        np.asfortranarray(x),
        wide[::2, ::2],
        np.ascontiguousarray(x[::-1])[::-1],
        x.astype(x.dtype.newbyteorder()),
    ):
        within(answer(cov, frozen(y)), exact_cov(x), cov_bound(x, dtype=dtype))


def lists_are_arrays(cov: Implementation, dtype: Dtype) -> None:
    """Nested lists of numbers are taken as arrays."""
    within(answer(cov, THREE.tolist()), exact_cov(THREE), cov_bound(THREE, dtype=dtype))


def the_result_is_at_least_double(cov: Implementation, dtype: Dtype) -> None:
    """The dtype is result_type(observations, float64): what is narrower is widened."""
    for given in (np.bool_, np.uint8, np.int32, np.float16, np.float32, np.float64):
        typed(answer(cov, (THREE + 1).astype(given)), np.float64)
    for wide in (np.complex64, np.complex128):
        typed(answer(cov, THREE.astype(wide)), np.complex128)


def long_double_is_kept(cov: Implementation, dtype: Dtype) -> None:
    """Data in long double have a covariance in long double."""
    typed(answer(cov, THREE.astype(np.longdouble)), np.longdouble)


def narrow_data_are_computed_in_double(cov: Implementation, dtype: Dtype) -> None:
    """Data in single or half precision are widened before anything is computed."""
    for narrow in (np.float32, np.float16):
        for x in samples(np.dtype(narrow)):
            exact(cov, dtype, x)
    exact(cov, dtype, (table(5, 2) % 5).astype(np.uint8))


def dtype_is_that_of_the_result(cov: Implementation, dtype: Dtype) -> None:
    """A dtype that is asked for is the dtype of the result."""
    for wanted in (np.float32, np.float64):
        typed(exact(cov, dtype, table(5, 2) / 7, dtype=wanted), wanted)


def the_result_is_an_array_of_its_own(cov: Implementation, dtype: Dtype) -> None:
    """A later call does not change an earlier result."""
    first, told = attempt(cov, THREE.astype(dtype))
    before = np.array(first)
    attempt(cov, (9 * THREE).astype(dtype))
    equal(told._replace(value=np.asarray(first)), before, "the earlier result")


LAWS = (
    a_stack_of_one_keeps_its_axis,
    one_feature_in_a_stack_keeps_its_axes,
    one_variable_gives_a_scalar,
    a_vector_is_one_variable,
    one_row_is_one_sample,
    no_samples_give_nan,
    no_features_give_an_empty_matrix,
    no_degrees_of_freedom_give_inf_or_nan,
    weight_on_a_single_row_gives_nan,
    no_degrees_of_freedom_warn,
    enough_degrees_of_freedom_do_not_warn,
    nan_spreads_to_its_row_and_column,
    nan_stays_in_its_item,
    negative_weights_are_refused,
    fractional_fweights_are_refused,
    weights_of_another_length_are_refused,
    weights_that_are_all_zero_are_refused,
    no_input_is_written_to,
    no_aweights_are_written_to,
    no_fweights_are_written_to,
    read_only_inputs_are_accepted,
    layouts_change_nothing,
    lists_are_arrays,
    the_result_is_an_array_of_its_own,
)
#: Laws of an implementation in double precision.
DOUBLE = (
    the_result_is_at_least_double,
    long_double_is_kept,
    narrow_data_are_computed_in_double,
    dtype_is_that_of_the_result,
)
