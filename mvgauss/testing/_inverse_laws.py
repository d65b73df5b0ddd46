"""Laws of pseudo-inverses of covariances, and of Mahalanobis distances; and their features."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from mvgauss.testing._bounds import distance_bound, pinv_bound
from mvgauss.testing._calls import Array, Subject, array_of, equal, hermitian, holds, shaped, typed, within
from mvgauss.testing._cases import (
    LONGLEY,
    LONGLEY_SQUARED_CORRELATION,
    Dtype,
    covariances,
    frozen,
    root,
    rotated,
    table,
    these,
)
from mvgauss.testing._laws import each, law
from mvgauss.testing._oracle import exact_cov, exact_mahalanobis, exact_pinv

#: What is said of a quadratic form that is negative, or has no root.
NEGATIVE = "a square is negative by rounding; take np.sqrt(np.maximum(squares, 0)), or the norm of a factor"

FULL, DEFICIENT = (4.0, 1.0, 0.5, 0.25), (1.0, 0.5, 0.0, 0.0)


def inverse(f: Subject, dtype: Dtype, s: Array, rank: Any = None) -> None:
    """Hold one call against the exact pseudo-inverse."""
    within(f.answer(s), exact_pinv(s, dtype=np.float64), pinv_bound(s, rank=rank, dtype=dtype))


def longley(dtype: Dtype) -> Array:
    """Return the correlations of Longley's data, whose condition number is 21,000."""
    s = np.asarray(exact_cov(LONGLEY))
    scale = np.sqrt(np.diag(s))
    correlations: Array = s / (scale[:, None] * scale)
    return correlations.astype(dtype)


def regression(f: Subject, dtype: Dtype) -> None:
    """Hold the squared correlation of Longley's last column with the others to the certified one."""
    r = longley(dtype)
    inverse(f, dtype, r)
    got = f.answer(r)
    unexplained = 1 - LONGLEY_SQUARED_CORRELATION
    rounding = len(r) * float(np.finfo(dtype).eps)
    bound = pinv_bound(r, error=rounding, dtype=dtype).max() * unexplained**2
    squared = got._replace(value=1 - 1 / got.value[-1, -1].astype(np.float64))
    within(squared, LONGLEY_SQUARED_CORRELATION, 2 * bound)


def unchanged(f: Subject, dtype: Dtype, s: Array) -> None:
    """Hold the pseudo-inverse of zeros and ones to themselves."""
    equal(f.answer(s), s, "exactly")


def refuses(f: Subject, dtype: Dtype, s: Array) -> None:
    """Expect an exception."""
    f.refuses(s)


def diagonal(f: Subject, dtype: Dtype, entries: Any, expected: Any, options: dict[str, float]) -> None:
    """Hold one call for a diagonal matrix."""
    s = np.diag(entries).astype(dtype)
    bound = pinv_bound(s.clip(0), rank=np.count_nonzero(expected), dtype=dtype)
    within(f.answer(s, **options), np.diag(expected), bound)


def identity(products: Callable[[Array, Array], tuple[Array, Array]], size: Callable[..., float]) -> Any:
    """Return what holds two products of A and its pseudo-inverse P to be the same."""

    def judge(f: Subject, dtype: Dtype, s: Array, rank: int) -> None:
        got = f.answer(s)
        shaped(got, s.shape)
        a, p = s.astype(np.float64), got.value.astype(np.float64)
        bound = pinv_bound(s, rank=rank, dtype=dtype).max() * size(*(np.linalg.norm(m, 2) for m in (a, p)))
        one, other = products(a, p)
        within(got._replace(value=one), other, bound)

    return each(judge, covariances)


def positive(f: Subject, dtype: Dtype, s: Array, rank: int) -> None:
    """Expect eigenvalues >= 0, but for rounding."""
    got = f.answer(s)
    values = np.linalg.eigvalsh(got.value.astype(np.float64))
    least = -len(s) * float(np.finfo(dtype).eps) * abs(values[-1])
    holds(got, values[0] >= least, "eigenvalues >= 0", values)


def ranked(f: Subject, dtype: Dtype, s: Array, rank: int) -> None:
    """Hold a call with return_rank=True to a pair, and the rank."""
    raw, told = f.attempt(s, return_rank=True)
    holds(told, isinstance(raw, tuple) and len(raw) == 2, "(inverse, rank)", raw)
    equal(array_of(raw[1], told), rank, "the rank")


def default_cut_off(f: Subject, dtype: Dtype) -> None:
    """Hold the default cut-off between C eps / 2 and 8 C eps."""
    eps = float(np.finfo(dtype).eps)
    diagonal(f, dtype, [1.0, eps], [1.0, 0.0], {})
    got = f.answer(np.diag([1.0, 16 * eps]).astype(dtype))
    holds(got, got.value[1, 1] > 0, "the second direction kept", got.value)


def pinv_dtypes(f: Subject, dtype: Dtype) -> None:
    """Hold single precision to single, with its cut-off, and double and whole numbers to double."""
    for given, wanted in ((np.float32, np.float32), (np.float64, np.float64), (np.int64, np.float64)):
        typed(f.answer(np.diag([2, 1]).astype(given)), wanted)
    default_cut_off(f, np.dtype(np.float32))


def known(
    chosen: Callable[[int, int], bool], *units: float
) -> Callable[[Dtype], Iterator[tuple[Array, int]]]:
    """Return what yields matrices of chosen rank and size, in some units."""
    return lambda d: (
        ((unit * s).astype(d), rank) for unit in units for s, rank in covariances(d) if chosen(rank, len(s))
    )


def mixed(dtype: Dtype) -> Iterator[tuple[Array, Array]]:
    """Yield stacks of matrices of different ranks and units."""
    full, half = rotated(FULL, dtype), rotated(DEFICIENT, dtype)
    for stack in ((4,), (2, 2)):
        items = np.reshape([full, half, 0 * full, 2.0**-60 * full], (*stack, 4, 4)).astype(dtype)
        yield items, np.reshape([4, 2, 0, 4], stack)


def cut(dtype: Dtype) -> Iterator[tuple[Any, Any, dict[str, float]]]:
    """Yield diagonals, their inverses, and cut-offs below and above the least of them."""
    for unit in (1.0, 2.0**-30, 2.0**30):
        for rtol, last in ((0.1, 8.0), (0.2, 0.0)):
            yield unit * np.array([1.0, 0.25, 0.125]), np.array([1.0, 4.0, last]) / unit, {"rtol": rtol}


def distances(cases: Callable[[Dtype], Iterable[tuple[Any, ...]]], **options: Any) -> Callable[..., None]:
    """Return what holds calls for samples, means and inverses against the exact distances."""

    def judge(f: Subject, dtype: Dtype, *case: Any) -> None:
        given = [np.asarray(a, dtype) for a in case]
        want = exact_mahalanobis(*given, **options, dtype=np.float64)
        within(f.answer(*given, **options), want, distance_bound(*given, **options, dtype=dtype))

    return each(judge, cases)


def not_negative(f: Subject, dtype: Dtype, options: dict[str, bool]) -> None:
    """Hold distances in the null space of a matrix that is singular to rounding to numbers >= 0."""
    v = np.array([3.0, -1.0, 2.0, 7.0]) / 7
    p = np.outer(v, v).astype(dtype)
    x = (table(20, 4) - (table(20, 4) @ v)[:, None] * v / (v @ v)).astype(dtype)
    if f.features.issuperset(options):
        got = f.answer(x, np.zeros(4, dtype), p, **options)
        holds(got, (got.value >= 0).all(), "distances >= 0", got.value, NEGATIVE)


def stacked(dtype: Dtype) -> Iterator[tuple[Any, ...]]:
    """Yield stacks of one and of two."""
    for items in (range(1), range(2)):
        x, mean = [table(3, 4, i) for i in items], [table(1, 4, i + 5)[0] for i in items]
        yield x, mean, [rotated((4.0, 1.0, 0.5, 0.25 + i), dtype) for i in items]


def plain(dtype: Dtype) -> tuple[Array, ...]:
    """Return samples, a mean and a matrix that can all be written to."""
    return table(3, 2).astype(dtype), np.ones(2, dtype), np.eye(2, dtype=dtype)


# fmt: off
PINV_LAWS = (
    law("a_regular_matrix_has_its_inverse: S P is the identity.",
        "", each(inverse, known(lambda r, c: r == c, 1))),
    law("a_singular_matrix_has_its_pseudo_inverse: The directions of variance zero stay zero.",
        "", each(inverse, known(lambda r, c: 0 < r < c, 1))),
    law("longleys_data_have_their_squared_correlation: It is 1 - 1 / p for the last diagonal entry p of the "
        "inverse of the correlations, certified by NIST.", "", regression),
    law("the_pseudo_inverse_of_zeros_is_zeros: No direction counts.",
        "", each(unchanged, these([[0]], np.zeros((3, 3))))),
    law("the_first_identity_of_moore_and_penrose_holds: A P A = A.",
        "", identity(lambda a, p: (a @ p @ a, a), lambda a, p: 2 * a * a)),
    law("the_second_identity_of_moore_and_penrose_holds: P A P = P.",
        "", identity(lambda a, p: (p @ a @ p, p), lambda a, p: 8 * (1 + a * p))),
    law("the_third_identity_of_moore_and_penrose_holds: A P is symmetric, a projection.",
        "", identity(lambda a, p: (a @ p, (a @ p).T), lambda a, p: 4 * a)),
    law("the_fourth_identity_of_moore_and_penrose_holds: P A is symmetric, a projection.",
        "", identity(lambda a, p: (p @ a, (p @ a).T), lambda a, p: 4 * a)),
    law("the_result_is_symmetric_to_the_last_bit: Entries j, k and k, j are equal.",
        "symmetric", each(lambda f, d, s, rank: hermitian(f.answer(s)), covariances)),
    law("no_eigenvalue_of_the_inverse_is_negative: It is a matrix of squared distances.",
        "", each(positive, covariances)),
    law("the_rank_counts_the_eigenvalues_that_are_kept: With return_rank=True the result is (inverse, "
        "rank).",
        "return_rank", each(ranked, covariances)),
    law("rtol_is_relative_to_the_largest_eigenvalue: What is at most rtol times that counts as zero.",
        "rtol", each(diagonal, cut)),
    law("an_eigenvalue_at_the_cut_off_is_dropped: Only a larger one is kept.",
        "rtol", each(diagonal, lambda d: [([1.0, 0.125], [1.0, 0.0], {"rtol": 0.125})])),
    law("the_default_cut_off_is_c_eps: An eigenvalue of C eps / 2 of the largest counts as zero, one of 8 C "
        "eps does not.", "", default_cut_off),
    law("a_negative_rounding_error_is_dropped: A slightly negative eigenvalue is not inverted.",
        "semidefinite", each(
            diagonal, lambda d: [([1.0, 0.5, -64 * float(np.finfo(d).eps)], [1.0, 2.0, 0.0], {})])),
    law("the_unit_of_the_covariance_does_not_matter: No absolute cut-off, no ridge.",
        "", each(inverse, known(lambda r, c: True, 2.0**-40, 2.0**40))),
    law("no_ridge_is_added: diag(1, 0) is its own pseudo-inverse.",
        "", each(unchanged, these([[1, 0], [0, 0]]))),
    law("each_matrix_of_a_stack_is_inverted_alone: With its own cut-off, whatever the other matrices are.",
        "stacks", each(inverse, mixed)),
    law("a_stack_of_one_keeps_its_axis: A stack (1, C, C) gives (1, C, C), also for C = 1.",
        "stacks", each(inverse, these(np.eye(1)[None], np.eye(2)[None]))),
    law("a_matrix_that_is_not_square_is_refused: Shape (2, 3) is an error.",
        "errors", each(refuses, these(np.ones((2, 3))))),
    law("a_matrix_that_is_not_symmetric_is_refused: Entries 0 and 1/2 across the diagonal are an error.",
        "errors", each(refuses, these([[1, 0.5], [0, 1]]))),
    law("a_matrix_that_is_not_finite_is_refused: A NaN or an infinity is an error.",
        "errors", each(refuses, these([[np.nan]], [[np.inf]]))),
    law("a_negative_variance_is_refused: An eigenvalue of -1/2 is more than rounding.",
        "semidefinite errors", each(refuses, these([[1, 0], [0, -0.5]]))),
    law("no_input_is_written_to: The covariance is as before the call.",
        "", each(lambda f, d, s, rank: f.keeps(s), covariances)),
    law("read_only_inputs_are_accepted: A covariance that cannot be written to is inverted.",
        "layouts", each(inverse, lambda d: [frozen(np.eye(2, dtype=d))])),
    law("the_dtype_is_that_of_the_data: Single precision stays single, and has the cut-off of single; double "
        "and whole numbers are double.", "dtypes", pinv_dtypes),
)

PINV_FEATURES = {
    "rtol": "`rtol`: the cut-off, relative to the largest eigenvalue",
    "return_rank": "`return_rank`: the rank, too",
    "stacks": "covariances (..., C, C)",
    "symmetric": "results equal their transposes to the last bit",
    "semidefinite": "a negative eigenvalue that may be rounding is dropped; another is one of the `errors`",
    "errors": "matrices that are not square, not symmetric or not finite are errors",
    "dtypes": "single precision stays single, whole numbers become double",
    "layouts": "read-only arrays",
}

DISTANCE_LAWS = (
    law("distances_are_roots_by_default: They are in standard deviations.", "", distances(lambda d: [
        ([[3.0], [0.5]], [0.0], np.eye(1)),
        *((table(5, 4) / 7, table(1, 4)[0], rotated(v, d)) for v in ((1.0,) * 4, FULL, DEFICIENT))])),
    law("squared_gives_squared_distances: With squared=True no root is taken.",
        "squared", distances(lambda d: [(table(4, 4), np.ones(4), rotated(FULL, d))], squared=True)),
    law("with_the_identity_the_distance_is_euclidean: (3, 4) has distance 5.",
        "", distances(lambda d: [([[3, 4]], [0, 0], np.eye(2))])),
    law("the_third_argument_is_the_inverse_covariance: It is not the covariance.",
        "", distances(lambda d: [(np.ones((1, 2)), [0, 0], np.diag([4, 9]))])),
    law("a_distance_is_never_negative_or_nan: Not where the matrix is singular to rounding either.",
        "", each(not_negative, lambda d: [{}, {"squared": True}])),
    law("the_mean_has_distance_zero: It is exactly zero, without a floor under the root.",
        "", each(
        lambda f, d, x: equal(f.answer(x, x[0], np.eye(2, dtype=d)), [0], "exactly"), these([[1 / 7, 3]]))),
    law("an_offset_costs_no_digits: The mean is subtracted before anything is multiplied.", "", distances(
        lambda d: [(table(4, 4) + root(d), np.full(4, root(d)), rotated(FULL, d))])),
    law("a_vector_is_one_sample: For x of shape (C,) the distance is 0-d.",
        "vectors", distances(lambda d: [([3, 4], [0, 0], np.eye(2))])),
    law("each_item_of_a_stack_has_its_own_gaussian: (B, N, C), (B, C) and (B, C, C) are a loop over B, also "
        "for B = 1.", "stacks", distances(stacked)),
    law("shapes_that_do_not_fit_are_refused: One feature is not broadcast to many.", "errors", each(
        lambda f, d, x, mean, c: f.refuses(np.ones(x, d), np.zeros(mean, d), np.eye(c, dtype=d)),
        lambda d: [((2, 3), 2, 2), ((2, 1), 3, 3), ((2, 3), 1, 3)])),
    law("no_input_is_written_to: Samples, mean and matrix are as before the call.",
        "", lambda f, d: f.keeps(*plain(d))),
    law("read_only_inputs_are_accepted: Arrays that cannot be written to are used.",
        "layouts", distances(lambda d: [tuple(map(frozen, plain(d)))])),
    law("the_dtype_is_that_of_the_data: Single precision gives single, double gives double.", "dtypes", each(
        lambda f, d, kind: typed(f.answer(*plain(kind)), kind), lambda d: (np.float32, np.float64))),
)

DISTANCE_FEATURES = {
    "squared": "`squared`: squares instead of roots",
    "stacks": "samples (..., N, C), means (..., C) and matrices (..., C, C)",
    "vectors": "a single sample (C,), and then a 0-d result",
    "errors": "numbers of features that differ are errors",
    "dtypes": "single precision stays single",
    "layouts": "read-only arrays",
}
