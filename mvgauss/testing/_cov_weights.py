"""Laws of covariances: weights and divisors."""

from __future__ import annotations

from typing import Any

import numpy as np

from mvgauss.testing._bounds import cov_bound
from mvgauss.testing._cases import (
    THREE,
    Dtype,
    aweights,
    fweights,
    samples,
    weights,
)
from mvgauss.testing._laws import (
    Answer,
    Array,
    Implementation,
    answer,
    within,
)
from mvgauss.testing._oracle import exact_cov


def exact(cov: Implementation, dtype: Dtype, x: Array, /, **arguments: Any) -> Answer:
    """Hold one call against the exact covariance."""
    streamed = arguments.pop("streamed", False)
    got = answer(cov, x, **arguments)
    known = {k: v for k, v in arguments.items() if k != "dtype"}
    wide = np.result_type(x.dtype, arguments.get("dtype", x.dtype), np.float64)
    want = exact_cov(x, **known, dtype=wide)
    bound = cov_bound(x, **known, dtype=arguments.get("dtype", dtype), streamed=streamed)
    within(got, want, bound)
    return got


def the_divisor_is_n_minus_ddof(cov: Implementation, dtype: Dtype) -> None:
    """Without weights the divisor is N - ddof, for any whole ddof."""
    for x in samples(dtype):
        for ddof in (0, 1, -1, 2, 3):
            if len(x) > ddof:
                exact(cov, dtype, x, ddof=ddof)


def bias_divides_by_n(cov: Implementation, dtype: Dtype) -> None:
    """With bias=True the divisor is that of ddof=0."""
    for x in samples(dtype):
        exact(cov, dtype, x, bias=True)


def ddof_wins_over_bias(cov: Implementation, dtype: Dtype) -> None:
    """A ddof that is given counts, whatever bias says."""
    exact(cov, dtype, THREE.astype(dtype), bias=True, ddof=1)
    exact(cov, dtype, THREE.astype(dtype), bias=False, ddof=0)
    exact(cov, dtype, THREE.astype(dtype), bias=True, ddof=2)


def _divisor(cov: Implementation, dtype: Dtype, kinds: str, ddofs: tuple[int, ...]) -> None:
    """Hold a divisor for every size that leaves degrees of freedom."""
    for x in samples(dtype):
        w = weights(len(x), dtype, kinds)
        for ddof in ddofs:
            if np.isfinite(cov_bound(x, ddof=ddof, **w, dtype=dtype)).all():
                exact(cov, dtype, x, ddof=ddof, **w)


def with_fweights_the_divisor_is_their_sum_minus_ddof(cov: Implementation, dtype: Dtype) -> None:
    """With fweights only, the divisor is sum(f) - ddof."""
    _divisor(cov, dtype, "f", (1, 0, -1, 2))


def with_aweights_the_divisor_uses_their_squares(cov: Implementation, dtype: Dtype) -> None:
    """With aweights only, the divisor is sum(a) - ddof sum(a^2) / sum(a)."""
    _divisor(cov, dtype, "a", (1, -1, 2))


def with_both_weights_the_divisor_uses_f_a_squared(cov: Implementation, dtype: Dtype) -> None:
    """With both kinds, w = f a, the divisor is sum(w) - ddof sum(w a) / sum(w)."""
    _divisor(cov, dtype, "fa", (1, 0, -1, 2))


def with_ddof_0_the_divisor_is_the_sum_of_aweights(cov: Implementation, dtype: Dtype) -> None:
    """With aweights and ddof=0 the divisor is sum(a)."""
    _divisor(cov, dtype, "a", (0,))


def the_mean_is_weighted(cov: Implementation, dtype: Dtype) -> None:
    """Samples are centred at their weighted mean."""
    x, w = np.array([[0.0], [1.0], [8.0]], dtype), np.array([1.0, 2.0, 5.0], dtype)
    exact(cov, dtype, x, aweights=w, ddof=0)


def weights_count_once(cov: Implementation, dtype: Dtype) -> None:
    """A weight multiplies a squared deviation once, not twice, and not by its root."""
    x, w = np.array([[-1.0], [1.0], [0.0]], dtype), np.array([2.0, 2.0, 4.0], dtype)
    exact(cov, dtype, x, aweights=w, ddof=0)


def equal_aweights_change_nothing(cov: Implementation, dtype: Dtype) -> None:
    """Aweights that are all the same are no weights."""
    for x in samples(dtype):
        got = answer(cov, x, aweights=np.full(len(x), 3.0, dtype))
        within(got, exact_cov(x), cov_bound(x, aweights=np.full(len(x), 3.0), dtype=dtype))


def scaling_aweights_changes_nothing(cov: Implementation, dtype: Dtype) -> None:
    """Aweights have no unit: a common factor drops out, for any ddof."""
    for x in samples(dtype):
        a = aweights(len(x), dtype)
        for factor in (2.0**-20, 2.0**20):
            got = answer(cov, x, aweights=factor * a)
            within(got, exact_cov(x, aweights=a), cov_bound(x, aweights=a, dtype=dtype))


def fweights_repeat_rows(cov: Implementation, dtype: Dtype) -> None:
    """A sample with fweight k counts as k equal samples."""
    for x in samples(dtype):
        f = fweights(len(x))
        bound = cov_bound(x, fweights=f, dtype=dtype)
        within(answer(cov, x, fweights=f), exact_cov(np.repeat(x, f, axis=0)), bound)


def a_zero_aweight_drops_the_row(cov: Implementation, dtype: Dtype) -> None:
    """A sample of aweight zero is as good as absent."""
    _dropped(cov, dtype, "a")


def a_zero_fweight_drops_the_row(cov: Implementation, dtype: Dtype) -> None:
    """A sample of fweight zero is as good as absent."""
    _dropped(cov, dtype, "f")


def _dropped(cov: Implementation, dtype: Dtype, kind: str) -> None:
    """Hold a covariance with a weight of zero against that without the row."""
    for x in samples(dtype):
        if len(x) < 3:
            continue
        given = weights(len(x), dtype, kind)
        for w in given.values():
            w[1] = 0
        left: dict[str, Any] = {k: np.delete(w, 1) for k, w in given.items()}
        want = exact_cov(np.delete(x, 1, axis=0), **left)
        within(answer(cov, x, **given), want, cov_bound(x, **given, dtype=dtype))


def the_order_of_samples_is_nothing(cov: Implementation, dtype: Dtype) -> None:
    """Samples may come in any order."""
    for x in samples(dtype):
        within(answer(cov, x[::-1].copy()), exact_cov(x), cov_bound(x, dtype=dtype))


def weights_follow_their_samples(cov: Implementation, dtype: Dtype) -> None:
    """Samples may come in any order, if their aweights do."""
    for x in samples(dtype):
        a = aweights(len(x), dtype)
        got = answer(cov, x[::-1].copy(), aweights=a[::-1].copy())
        within(got, exact_cov(x, aweights=a), cov_bound(x, aweights=a, dtype=dtype))


def a_fractional_ddof_is_meant_or_refused(cov: Implementation, dtype: Dtype) -> None:
    """A ddof of 1.5 is used as it is, or refused; it is not cut to 1."""
    try:
        answer(cov, THREE.astype(dtype), ddof=1.5)
    except AssertionError:
        return
    exact(cov, dtype, THREE.astype(dtype), ddof=1.5)


def a_fractional_ddof_is_meant(cov: Implementation, dtype: Dtype) -> None:
    """Any real ddof is used as it is."""
    for ddof in (0.5, 1.5, -2.25):
        exact(cov, dtype, THREE.astype(dtype), ddof=ddof)
        exact(cov, dtype, THREE.astype(dtype), ddof=ddof, aweights=aweights(3, dtype))


LAWS = (
    the_divisor_is_n_minus_ddof,
    bias_divides_by_n,
    ddof_wins_over_bias,
    with_fweights_the_divisor_is_their_sum_minus_ddof,
    with_aweights_the_divisor_uses_their_squares,
    with_both_weights_the_divisor_uses_f_a_squared,
    with_ddof_0_the_divisor_is_the_sum_of_aweights,
    the_mean_is_weighted,
    weights_count_once,
    equal_aweights_change_nothing,
    scaling_aweights_changes_nothing,
    fweights_repeat_rows,
    a_zero_aweight_drops_the_row,
    a_zero_fweight_drops_the_row,
    the_order_of_samples_is_nothing,
    weights_follow_their_samples,
    a_fractional_ddof_is_meant_or_refused,
)
#: Laws that numpy.cov itself does not keep.
BEYOND_NUMPY = (a_fractional_ddof_is_meant,)
