"""Laws of pseudo-inverses of symmetric positive semi-definite matrices."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from mvgauss.testing._cases import Dtype, covariances, frozen, rotated
from mvgauss.testing._inverse_bounds import pinv_bound
from mvgauss.testing._laws import (
    Answer,
    Array,
    BrokenError,
    Implementation,
    answer,
    array_of,
    attempt,
    equal,
    hermitian,
    refused,
    shaped,
    typed,
    unchanged,
    within,
)
from mvgauss.testing._oracle_gaussian import exact_pinv


def exact(pinv: Implementation, dtype: Dtype, s: Array, rank: int | None = None, **arguments: Any) -> Answer:
    """Hold one call against the exact pseudo-inverse."""
    got = answer(pinv, s, **arguments)
    within(got, exact_pinv(s, dtype=np.float64), pinv_bound(s, rank=rank, dtype=dtype))
    return got


def a_regular_matrix_has_its_inverse(pinv: Implementation, dtype: Dtype) -> None:
    """Of a regular matrix the pseudo-inverse is the inverse."""
    for s, rank in covariances(dtype):
        if rank == len(s):
            exact(pinv, dtype, s, rank)


def a_singular_matrix_has_its_pseudo_inverse(pinv: Implementation, dtype: Dtype) -> None:
    """Of a singular matrix the directions of variance zero stay zero."""
    for s, rank in covariances(dtype):
        if 0 < rank < len(s):
            exact(pinv, dtype, s, rank)


def the_zero_matrix_is_its_own(pinv: Implementation, dtype: Dtype) -> None:
    """Of zeros the pseudo-inverse is zeros."""
    for c in (1, 3):
        equal(answer(pinv, np.zeros((c, c), dtype)), np.zeros((c, c)), "zeros")


def _products(pinv: Implementation, dtype: Dtype) -> Iterator[tuple[Array, Answer, Array, float, float]]:
    """Yield A, the answer, P as numbers, the norm of A, and the bound of the error of P."""
    for s, rank in covariances(dtype):
        got = answer(pinv, s)
        shaped(got, s.shape)
        off = float(pinv_bound(s, rank=rank, dtype=dtype).max())
        yield s.astype(np.float64), got, got.value.astype(np.float64), float(np.linalg.norm(s, 2)), off


def a_p_a_is_a(pinv: Implementation, dtype: Dtype) -> None:
    """First identity of Moore and Penrose: A P A = A."""
    for a, got, p, norm, off in _products(pinv, dtype):
        within(got._replace(value=a @ p @ a), a, 2 * off * norm**2)


def p_a_p_is_p(pinv: Implementation, dtype: Dtype) -> None:
    """Second identity of Moore and Penrose: P A P = P."""
    for a, got, p, norm, off in _products(pinv, dtype):
        within(got._replace(value=p @ a @ p), p, 8 * off * (1 + norm * np.linalg.norm(p, 2)))


def a_p_is_symmetric(pinv: Implementation, dtype: Dtype) -> None:
    """Third identity of Moore and Penrose: A P is symmetric, a projection."""
    for a, got, p, norm, off in _products(pinv, dtype):
        within(got._replace(value=a @ p), (a @ p).T, 4 * off * norm)


def p_a_is_symmetric(pinv: Implementation, dtype: Dtype) -> None:
    """Fourth identity of Moore and Penrose: P A is symmetric, a projection."""
    for a, got, p, norm, off in _products(pinv, dtype):
        within(got._replace(value=p @ a), (p @ a).T, 4 * off * norm)


def the_result_is_symmetric_to_the_last_bit(pinv: Implementation, dtype: Dtype) -> None:
    """Pseudo-inverses equal their transposes exactly."""
    for s, _ in covariances(dtype):
        hermitian(answer(pinv, s))


def no_direction_is_negative(pinv: Implementation, dtype: Dtype) -> None:
    """Pseudo-inverses have no negative eigenvalue but for rounding."""
    for s, _ in covariances(dtype):
        got = answer(pinv, s)
        values = np.linalg.eigvalsh(got.value.astype(np.float64))
        if values[0] < -len(s) * float(np.finfo(dtype).eps) * abs(values[-1]):
            raise BrokenError(got.call, "eigenvalues >= 0", values)


def the_rank_counts_what_is_kept(pinv: Implementation, dtype: Dtype) -> None:
    """With return_rank=True the rank comes too."""
    for s, rank in covariances(dtype):
        raw, told = attempt(pinv, s, return_rank=True)
        pair = raw if isinstance(raw, tuple) and len(raw) == 2 else None
        if pair is None:
            raise BrokenError(told.call, "(inverse, rank)", raw)
        equal(array_of(pair[1], told), rank, "the rank")


def rtol_is_relative_to_the_largest_eigenvalue(pinv: Implementation, dtype: Dtype) -> None:
    """What is at most rtol times the largest eigenvalue counts as zero, whatever the unit."""
    for unit in (1.0, 2.0**-30, 2.0**30):
        s = unit * np.diag([1.0, 0.25, 0.125]).astype(dtype)
        kept, dropped = np.diag([1.0, 4.0, 8.0]) / unit, np.diag([1.0, 4.0, 0.0]) / unit
        within(answer(pinv, s, rtol=0.1), kept, pinv_bound(s, dtype=dtype))
        within(answer(pinv, s, rtol=0.2), dropped, pinv_bound(s, rank=2, dtype=dtype))


def an_eigenvalue_at_the_cut_off_is_dropped(pinv: Implementation, dtype: Dtype) -> None:
    """To be kept, an eigenvalue has to be larger than the cut-off."""
    s = np.diag([1.0, 0.125]).astype(dtype)
    within(answer(pinv, s, rtol=0.125), np.diag([1.0, 0.0]), pinv_bound(s, rank=1, dtype=dtype))


def the_default_cut_off_is_c_eps(pinv: Implementation, dtype: Dtype) -> None:
    """By default an eigenvalue of C eps / 2 of the largest counts as zero, one of 8 C eps does not."""
    eps = float(np.finfo(dtype).eps)
    s = np.diag([1.0, eps]).astype(dtype)
    within(answer(pinv, s), np.diag([1.0, 0.0]), pinv_bound(s, rank=1, dtype=dtype))
    s = np.diag([1.0, 16 * eps]).astype(dtype)
    got = answer(pinv, s).value
    if not got[1, 1] > 0:
        raise BrokenError(f"f({s.tolist()})", "the second direction kept", got)


def a_negative_rounding_error_is_dropped(pinv: Implementation, dtype: Dtype) -> None:
    """A slightly negative eigenvalue is rounding: it counts as zero, and is not inverted."""
    small = 64 * float(np.finfo(dtype).eps)
    s = np.diag([1.0, 0.5, -small]).astype(dtype)
    within(answer(pinv, s), np.diag([1.0, 2.0, 0.0]), pinv_bound(s.clip(0), rank=2, dtype=dtype))


def the_unit_of_the_data_is_nothing(pinv: Implementation, dtype: Dtype) -> None:
    """Small and large matrices are inverted to the same digits: no absolute cut-off, no ridge."""
    for unit in (2.0**-40, 2.0**40):
        for s, rank in covariances(dtype):
            exact(pinv, dtype, (unit * s).astype(dtype), rank)


def no_ridge_is_added(pinv: Implementation, dtype: Dtype) -> None:
    """A variance of zero is not one of 1e-8."""
    s = np.diag([1.0, 0.0]).astype(dtype)
    equal(answer(pinv, s), s, "exactly")


def a_stack_is_a_loop(pinv: Implementation, dtype: Dtype) -> None:
    """In a stack pinv(s)[i] is pinv(s[i]), with its own cut-off, whatever its neighbours are."""
    items = [
        rotated((1.0, 0.5, 0.25, 0.125), dtype),
        rotated((1.0, 0.25, 0.0, 0.0), dtype),
        np.zeros((4, 4), dtype),
        (2.0**-60 * rotated((1.0, 0.5, 0.5, 0.25), dtype)).astype(dtype),
    ]
    s, ranks = np.array(items), np.array([4, 2, 0, 4])
    for stack in ((4,), (2, 2)):
        t, r = s.reshape(*stack, 4, 4), ranks.reshape(stack)
        within(answer(pinv, t), exact_pinv(t, dtype=np.float64), pinv_bound(t, rank=r, dtype=dtype))


def a_stack_of_one_keeps_its_axis(pinv: Implementation, dtype: Dtype) -> None:
    """A stack (1, C, C) gives (1, C, C), also for C = 1."""
    for c in (1, 2):
        exact(pinv, dtype, np.eye(c, dtype=dtype)[None])


def what_is_not_square_is_refused(pinv: Implementation, dtype: Dtype) -> None:
    """A matrix has as many rows as columns."""
    refused(pinv, np.ones((2, 3), dtype))


def what_is_not_symmetric_is_refused(pinv: Implementation, dtype: Dtype) -> None:
    """A covariance equals its transpose: a triangle alone is a mistake."""
    refused(pinv, np.array([[1.0, 0.5], [0.0, 1.0]], dtype))


def what_is_not_finite_is_refused(pinv: Implementation, dtype: Dtype) -> None:
    """Of NaN and infinities there is no inverse."""
    for bad in (np.nan, np.inf):
        refused(pinv, np.array([[1.0, 0.0], [0.0, bad]], dtype))


def what_is_negative_is_refused(pinv: Implementation, dtype: Dtype) -> None:
    """A clearly negative variance is no rounding."""
    refused(pinv, np.diag([1.0, -0.5]).astype(dtype))


def no_input_is_written_to(pinv: Implementation, dtype: Dtype) -> None:
    """The covariance is the same after a call as before."""
    for s, _ in covariances(dtype):
        unchanged(pinv, s)


def read_only_inputs_are_accepted(pinv: Implementation, dtype: Dtype) -> None:
    """An array that cannot be written to is as good as another."""
    exact(pinv, dtype, frozen(np.diag([1.0, 0.5]).astype(dtype)))


def the_dtype_is_that_of_the_data(pinv: Implementation, dtype: Dtype) -> None:
    """Single precision stays single, and has the cut-off of single; double and whole numbers are double."""
    for given, wanted in ((np.float32, np.float32), (np.float64, np.float64), (np.int64, np.float64)):
        typed(answer(pinv, np.diag([2, 1]).astype(given)), wanted)
    tiny = np.diag([1.0, float(np.finfo(np.float32).eps)]).astype(np.float32)
    within(answer(pinv, tiny), np.diag([1.0, 0.0]), pinv_bound(tiny, rank=1, dtype=np.float32))


LAWS = (
    a_regular_matrix_has_its_inverse,
    a_singular_matrix_has_its_pseudo_inverse,
    the_zero_matrix_is_its_own,
    a_p_a_is_a,
    p_a_p_is_p,
    a_p_is_symmetric,
    p_a_is_symmetric,
    the_result_is_symmetric_to_the_last_bit,
    no_direction_is_negative,
    the_rank_counts_what_is_kept,
    rtol_is_relative_to_the_largest_eigenvalue,
    an_eigenvalue_at_the_cut_off_is_dropped,
    the_default_cut_off_is_c_eps,
    a_negative_rounding_error_is_dropped,
    the_unit_of_the_data_is_nothing,
    no_ridge_is_added,
    a_stack_is_a_loop,
    a_stack_of_one_keeps_its_axis,
    what_is_not_square_is_refused,
    what_is_not_symmetric_is_refused,
    what_is_not_finite_is_refused,
    what_is_negative_is_refused,
    no_input_is_written_to,
    read_only_inputs_are_accepted,
)
#: Laws of an implementation in double precision.
DOUBLE = (the_dtype_is_that_of_the_data,)
