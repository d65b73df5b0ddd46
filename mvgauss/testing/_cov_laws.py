"""Laws of covariances: what the numbers are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from mvgauss.testing._bounds import cov_bound
from mvgauss.testing._calls import Array, BrokenError, Subject, equal, hermitian, within
from mvgauss.testing._cases import (
    LONGLEY,
    THREE,
    Dtype,
    Source,
    aweights,
    columns,
    complex_samples,
    far,
    fweights,
    of_items,
    samples,
    smls,
    stacks,
    table,
    these,
)
from mvgauss.testing._laws import each, law
from mvgauss.testing._oracle import exact_cov

#: What is said of an implementation that takes samples from columns, as numpy.cov does by default.
COLUMNS = "samples are taken from columns; hand over the transpose, such as lambda x: np.cov(x, rowvar=False)"


def exact(f: Subject, dtype: Dtype, x: Array, arguments: dict[str, Any], streamed: bool = False) -> Any:
    """Hold one call against the exact covariance, if the implementation has its arguments."""
    if not f.features.issuperset(arguments):
        return None
    got = f.answer(x, **arguments)
    known = {k: v for k, v in arguments.items() if k != "dtype"}
    wide = np.result_type(x.dtype, arguments.get("dtype", x.dtype), np.float64)
    kind = arguments.get("dtype", np.result_type(dtype, x.dtype) if x.dtype.kind == "c" else dtype)
    want, bound = exact_cov(x, **known, dtype=wide), cov_bound(x, **known, dtype=kind, streamed=streamed)
    if got.value.shape == (1, 1):  # as good as a scalar, but for the law that it is one
        got = got._replace(value=got.value.reshape(want.shape))
    within(got, want, bound)
    return got


def in_rows(f: Subject, dtype: Dtype, x: Array) -> None:
    """Hold one call against the exact covariance; where the samples are taken from columns, say so."""
    try:
        exact(f, dtype, x, {})
    except BrokenError as broken:
        turned, want = table(5, 3).astype(dtype), exact_cov(table(5, 3))
        got = Subject(lambda y: f.function(y.T), f.features, f.asarray)
        if _agrees(got, turned, want, dtype):
            raise broken.hinted(COLUMNS) from broken.__cause__
        raise


def _agrees(f: Subject, x: Array, want: Array, dtype: Dtype) -> bool:
    """Return whether an answer is the covariance that is wanted."""
    try:
        within(f.answer(x), want, cov_bound(x, dtype=dtype))
    except BrokenError:
        return False
    return True


def exactly(source: Source, **made: Any) -> Callable[..., None]:
    """Return what holds calls against the exact covariances; arguments are values, or made of the samples."""
    return each(
        exact,
        lambda d: ((x, {k: m(x) if callable(m) else m for k, m in made.items()}) for x in source(d)),
    )


def without_offset(f: Subject, dtype: Dtype, x: Array) -> None:
    """Hold one call against the bound of the same samples less the first of them."""
    z = x - x[:1]  # exact, since the numbers have the same leading digits
    within(f.answer(x), exact_cov(x), cov_bound(z, dtype=dtype))


def divided(*ddofs: int | None, **made: Any) -> Callable[..., None]:
    """Return what holds calls of every size that leaves degrees of freedom for some ddofs."""

    def cases(dtype: Dtype) -> Iterator[tuple[Array, dict[str, Any]]]:
        for x in samples(dtype):
            for ddof in ddofs:
                given: dict[str, Any] = {k: m(x) for k, m in made.items()}
                given.update({} if ddof is None else {"ddof": ddof})
                if np.isfinite(cov_bound(x, **given, dtype=dtype)).all():
                    yield x, given

    return each(exact, cases)


def but_one(weights: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """Return what makes weights of which the second is zero."""
    return lambda x: np.where(np.arange(len(x)) == 1, 0, weights(x)).astype(weights(x).dtype)


def larger(dtype: Dtype) -> Iterator[Array]:
    """Yield samples, some of them many."""
    yield from (*samples(dtype), *these(table(16, 6) / 7, table(40, 9) / 7)(dtype))


def symmetric(f: Subject, dtype: Dtype, x: Array, **arguments: Any) -> None:
    """Expect a covariance that equals its conjugate transpose to the last bit."""
    hermitian(f.answer(x, **arguments))


def constant(f: Subject, dtype: Dtype, x: Array) -> None:
    """Hold the covariances of a second feature that is constant to exact zeros."""
    got = exact(f, dtype, x, {})
    equal(got._replace(value=got.value[1]), np.zeros(2), "exact zeros for the feature that is 3 throughout")


def used_or_refused(f: Subject, dtype: Dtype, x: Array) -> None:
    """Hold a ddof of 1.5 to its value, or to an exception."""
    try:
        f.answer(x, ddof=1.5)
    except AssertionError:
        return
    exact(f, dtype, x, {"ddof": 1.5})


def three(*cases: dict[str, Any]) -> Callable[..., None]:
    """Return what holds calls for three samples with these arguments against the exact covariances."""
    return each(exact, lambda d: ((THREE.astype(d), arguments) for arguments in cases))


# fmt: off
LAWS = (
    law("samples_are_in_rows: Observations (N, C) give C x C, with divisor N - 1.",
        "", each(in_rows, samples)),
    law("rowvar_puts_samples_in_columns: With rowvar=True observations are (C, N).",
        "rowvar", exactly(columns(samples), rowvar=True)),
    law("the_order_of_samples_does_not_matter: Reversed rows have the same covariance.",
        "", exactly(lambda d: (x[::-1].copy() for x in samples(d)))),
    law("data_far_from_zero_are_not_squared: An offset of the data costs at most its own digits, not those "
        "of its square: no one-pass formula.", "", each(exact, lambda d: ((x, {}, True) for x in far(d)))),
    law("the_offset_of_the_data_costs_no_digits: The mean is subtracted before anything is multiplied: two "
        "passes, no running updates.", "two_pass", exactly(far)),
    law("the_offset_of_weighted_data_costs_no_digits: The weighted mean is subtracted before anything is "
        "multiplied.", "two_pass aweights", exactly(far, aweights=aweights)),
    law("data_sets_of_nist_are_not_squared: SmLs07 to 09 have 13 constant leading digits.",
        "", each(exact, lambda d: ((x, {}, True) for x in smls(d)))),
    law("data_sets_of_nist_lose_no_digits_but_those_of_the_mean: SmLs07 to 09 by two passes.",
        "two_pass", exactly(smls)),
    law("data_sets_of_nist_lose_no_digits: SmLs07 to 09 are as exact as without their 13 leading digits, "
        "since a sample is subtracted before the mean is computed.", "shifted", each(without_offset, smls)),
    law("longleys_data_have_their_covariance: Its variances differ by a factor of 2e7, and it is nearly "
        "singular (NIST).", "", exactly(these(LONGLEY))),
    law("scaling_the_data_scales_the_covariance: Small and large data keep all digits: nothing is added.",
        "", exactly(lambda d: ((x * 2.0**k).astype(d) for k in (-10, -20, 20) for x in samples(d)))),
    law("a_constant_feature_has_no_variance: Its variance and covariances are zero: no hidden ridge.",
        "", each(constant, these([[1, 3], [2, 3], [4, 3], [0, 3]]))),
    law("more_features_than_samples_are_fine: With N <= C the covariance is singular, but correct.",
        "", exactly(these(*(table(n, c) / 7 for n, c in ((2, 3), (3, 5), (2, 8)))))),
    law("complex_data_conjugate_the_second_factor: Entry j, k is the sum of z_j conj(z_k).",
        "complex", exactly(complex_samples)),
    law("complex_data_may_have_aweights: They multiply z_j conj(z_k).",
        "complex aweights", exactly(complex_samples, aweights=aweights)),
    law("each_item_of_a_stack_has_its_own_covariance: In a stack cov(x)[i] is cov(x[i]).",
        "stacks", exactly(stacks)),
    law("samples_of_a_stack_may_be_in_columns: With rowvar=True observations are (..., C, N).",
        "stacks rowvar", exactly(columns(stacks), rowvar=True)),
    law("aweights_apply_to_every_item_of_a_stack: Aweights of shape (N,) are those of each item.",
        "stacks aweights", exactly(stacks, aweights=aweights)),
    law("fweights_apply_to_every_item_of_a_stack: Fweights of shape (N,) are those of each item.",
        "stacks fweights", exactly(stacks, fweights=fweights)),
    law("aweights_may_differ_between_items: Aweights of shape (..., N) belong to their items.",
        "stacks aweights weight_stacks", exactly(stacks, aweights=lambda x: of_items(x).astype(x.dtype))),
    law("fweights_may_differ_between_items: Fweights of shape (..., N) belong to their items.",
        "stacks fweights weight_stacks", exactly(stacks, fweights=of_items)),
    law("the_result_is_symmetric_to_the_last_bit: Entries j, k and k, j are equal.",
        "symmetric", each(symmetric, larger)),
    law("weighted_results_are_symmetric_to_the_last_bit: Entries j, k and k, j are equal with aweights.",
        "symmetric_weighted aweights", each(
        lambda f, d, x: symmetric(f, d, x, aweights=(1 + np.arange(len(x)) / 7).astype(d)), larger)),
    law("complex_results_are_hermitian_to_the_last_bit: Entry k, j is the conjugate of j, k, and "
        "variances are real.",
        "symmetric_weighted complex", each(symmetric, complex_samples)),
    law("the_divisor_is_n_minus_ddof: Without weights, for any whole ddof.", "ddof", divided(0, 1, -1, 2, 3)),
    law("bias_divides_by_n: With bias=True the divisor is that of ddof=0.",
        "bias", exactly(samples, bias=True)),
    law("ddof_overrides_bias: A ddof that is given is used, whatever bias is.", "bias ddof", three(
        {"bias": True, "ddof": 1}, {"bias": False, "ddof": 0}, {"bias": True, "ddof": 2})),
    law("with_fweights_the_divisor_is_their_sum_minus_ddof: With fweights only, it is sum(f) - ddof.",
        "fweights", divided(None, 0, -1, 2, fweights=fweights)),
    law("with_aweights_the_divisor_uses_their_squares: It is sum(a) - ddof sum(a^2) / sum(a).",
        "aweights", divided(None, -1, 2, aweights=aweights)),
    law("with_both_weights_the_divisor_uses_f_a_squared: With w = f a it is sum(w) - ddof sum(w a) / sum(w).",
        "aweights fweights", divided(None, 0, -1, 2, aweights=aweights, fweights=fweights)),
    law("with_ddof_0_the_divisor_is_the_sum_of_aweights: It is neither N nor one less.",
        "aweights ddof", divided(0, aweights=aweights)),
    law("the_mean_is_weighted: Deviations are those from sum(a x) / sum(a).",
        "aweights", exactly(
        these([[0.0], [1.0], [8.0]]), aweights=lambda x: np.array([1, 2, 5], x.dtype))),
    law("weights_multiply_squared_deviations: Not the square or the root of the weight does.",
        "aweights", exactly(these([[-1], [1], [0]]), aweights=lambda x: np.array([2, 2, 4], x.dtype))),
    law("equal_aweights_change_nothing: Aweights of 3 give what no weights give.",
        "aweights", exactly(samples, aweights=lambda x: np.full(len(x), 3, x.dtype))),
    law("scaling_aweights_changes_nothing: Only their ratios count, however small they are.",
        "aweights", each(exact, lambda d: (
        (x, {"aweights": (aweights(x) * 2.0**k).astype(d)}) for x in samples(d) for k in (-20, 20)))),
    law("aweights_follow_their_samples: Samples and aweights in reverse order have the same covariance.",
        "aweights", each(exact, lambda d: (
        (x[::-1].copy(), {"aweights": aweights(x)[::-1].copy()}) for x in samples(d)))),
    law("fweights_repeat_samples: A sample with fweight k counts as k equal samples.",
        "fweights", exactly(samples, fweights=fweights)),
    *(law(f"a_zero_{kind[:-1]}_drops_the_sample: The result is that of the others.", kind, exactly(
        lambda d: (x for x in samples(d) if len(x) > 2), **{kind: but_one(made)}))
      for kind, made in (("aweights", aweights), ("fweights", fweights))),
    law("a_fractional_ddof_is_used_or_refused: A ddof of 1.5 is not cut to 1.",
        "ddof", each(used_or_refused, these(THREE))),
    law("a_fractional_ddof_is_used: A ddof of 0.5 or 1.5 is taken from the divisor as it is.",
        "ddof fractional_ddof", three(*(
        {"ddof": k, **w} for k in (0.5, 1.5, -2.25) for w in ({}, {"aweights": aweights(THREE)})))),
)
