"""Laws of covariances: shapes, dtypes, what is refused, and what is left alone; and all features."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from mvgauss.testing._calls import Array, Subject, as_numpy, equal, holds, shaped, silent, typed
from mvgauss.testing._cases import THREE, Dtype, aweights, frozen, fweights, samples, table, these
from mvgauss.testing._cov_laws import exact, exactly, three
from mvgauss.testing._laws import each, law


def layouts(dtype: Dtype) -> Iterator[Array]:
    """Yield read-only samples in Fortran order, strides of any sign and foreign byte order."""
    x = (table(5, 3) / 7).astype(dtype)
    wide = np.zeros((10, 6), dtype)
    wide[::2, ::2] = x
    backwards, foreign = np.ascontiguousarray(x[::-1])[::-1], x.astype(x.dtype.newbyteorder())
    yield from map(frozen, (np.asfortranarray(x), wide[::2, ::2], backwards, foreign))


def spoilt(x: Array, where: tuple[int, ...], value: float = np.nan) -> Array:
    """Return samples with a number that is not finite."""
    x[where] = value
    return x


def narrow(dtype: Dtype) -> Iterator[Array]:
    """Yield samples in single and half precision, and in bytes."""
    for kind in (np.float32, np.float16):
        yield from samples(np.dtype(kind))
    yield (table(5, 2) % 5).astype(np.uint8)


def dtype_of(wanted: type, *kinds: type) -> Callable[..., None]:
    """Return what holds results for data of some dtypes to a dtype."""
    return each(lambda f, d, kind: typed(f.answer((THREE + 1).astype(kind)), wanted), lambda d: kinds)


def warns(f: Subject, dtype: Dtype) -> None:
    """Expect a RuntimeWarning for a single sample."""
    got = f.answer(THREE[:1].astype(dtype))
    told = any(issubclass(category, RuntimeWarning) for category in got.warnings)
    holds(got, told, "a RuntimeWarning", [w.__name__ for w in got.warnings] or "no warning")


def later_calls(f: Subject, dtype: Dtype) -> None:
    """Hold an earlier result to what it was."""
    first, told = f.attempt(THREE.astype(dtype))
    before = np.array(as_numpy(first))
    f.attempt((9 * THREE).astype(dtype))
    equal(told._replace(value=as_numpy(first)), before, "the earlier result")


def refused(kind: str, *values: Any) -> Callable[..., None]:
    """Return what expects exceptions for weights of three samples; whole fweights are integers."""

    def judge(f: Subject, dtype: Dtype, w: Any) -> None:
        whole = kind == "fweights" and float(sum(w)).is_integer()
        f.refuses(THREE.astype(dtype), **{kind: np.array(w, np.intp if whole else dtype)})

    return each(judge, lambda d: values)


# fmt: off
LAWS = (
    law("a_stack_of_one_keeps_its_axis: Observations (1, N, C) give (1, C, C), (1, 1, N, C) (1, 1, C, C).",
        "stacks", exactly(these(THREE[None], THREE[None, None], np.array([[THREE], [THREE]])))),
    law("one_feature_in_a_stack_keeps_its_axes: Observations (B, N, 1) give (B, 1, 1), also for B = 1.",
        "stacks", exactly(these(THREE[None, :, :1], np.array([THREE, THREE])[..., :1]))),
    law("one_variable_gives_a_scalar: Without a stack, (N,) and (N, 1) give a 0-d result.",
        "vectors", each(lambda f, d, x: shaped(f.answer(x), ()), these(THREE[:, 0], THREE[:, :1]))),
    law("a_vector_is_one_variable: Observations (N,) are N samples, whatever rowvar says.",
        "vectors", each(exact, lambda d: (
            (np.array([1, 2, 4], d), given) for given in ({}, {"rowvar": False}, {"rowvar": True})))),
    law("one_row_is_one_sample: Observations (1, C) give C x C, NaN with ddof=1 and zeros with ddof=0.",
        "degenerate", each(exact, lambda d: ((THREE[1:2].astype(d), given) for given in ({}, {"ddof": 0})))),
    law("no_samples_give_nan: Observations (0, C) give C x C.",
        "degenerate", exactly(these(np.zeros((0, 2))))),
    law("no_features_give_an_empty_matrix: Observations (N, 0) give a result of shape (0, 0).",
        "degenerate", each(lambda f, d, x: shaped(f.answer(x), (0, 0)), these(np.zeros((3, 0))))),
    law("no_degrees_of_freedom_give_inf_or_nan: A divisor <= 0 counts as zero: no variance is negative.",
        "degenerate ddof", three({"ddof": 3}, {"ddof": 4})),
    law("all_weight_on_one_sample_gives_nan: No degrees of freedom are left: 0/0.",
        "degenerate aweights", exactly(these(THREE), aweights=lambda x: np.array([0, 1, 0], x.dtype))),
    law("no_degrees_of_freedom_warn: A divisor <= 0 gives a RuntimeWarning.", "warnings", warns),
    law("enough_degrees_of_freedom_do_not_warn: Three samples give a covariance and no warning.",
        "", each(lambda f, d, x: silent(f.answer(x)), these(THREE))),
    law("nan_spreads_to_its_row_and_column: So does an infinity; other entries stay finite.",
        "nan", exactly(these(*(spoilt(table(4, 3), (1, 2), bad) for bad in (np.nan, np.inf))))),
    law("nan_stays_in_its_item_of_a_stack: Covariances of the other items are finite.",
        "nan stacks", exactly(these(spoilt(np.array([table(4, 2), table(4, 2, 1)]), (0, 1, 1))))),
    *(law(f"{name.format(kind)}_are_refused: {why}", f"errors {kind}", refused(kind, *values))
      for kind in ("aweights", "fweights")
      for name, why, values in (
          ("negative_{}", "A single one is an error.", [[1, -1, 1]]),
          ("{}_that_are_all_zero", "No sample is left to have a covariance.", [[0, 0, 0]]),
          ("{}_of_another_length", "There is one for each sample.", [[1], [1, 1], [1, 1, 1, 1]]))),
    law("fractional_fweights_are_refused: An fweight of 1.5 is an error, and not cut to 1.",
        "errors fweights", refused("fweights", [1.0, 1.5, 1.0])),
    law("no_input_is_written_to: The observations are as before the call.",
        "", each(lambda f, d, x: f.keeps(x), these(THREE))),
    law("no_aweights_are_written_to: They are as before the call.",
        "aweights", each(lambda f, d, x: f.keeps(x, aweights=aweights(x)), these(THREE))),
    law("no_fweights_are_written_to: They are as before the call.",
        "fweights", each(lambda f, d, x: f.keeps(x, fweights=fweights(x)), these(THREE))),
    law("a_later_call_does_not_change_an_earlier_result: Results share no memory.",
        "", later_calls),
    law("read_only_inputs_are_accepted: Without an error and without a warning.", "layouts", each(
        lambda f, d, x: silent(exact(f, d, frozen(x), {})), these(THREE))),
    law("memory_layouts_do_not_matter: Fortran order, strides of any sign and foreign byte order hold the "
        "same numbers.", "layouts", exactly(layouts)),
    law("nested_lists_are_taken_as_arrays: They give the very same numbers.",
        "lists", lambda f, d: equal(
        f.answer(THREE.tolist()), f.answer(THREE).value, "as of an array")),
    law("the_result_is_at_least_double: The dtype is result_type(observations, float64).",
        "widening", dtype_of(np.float64, np.bool_, np.uint8, np.int32, np.float16, np.float32, np.float64)),
    law("complex_results_are_at_least_double: The dtype is complex128.",
        "widening complex", dtype_of(np.complex128, np.complex64, np.complex128)),
    law("narrow_data_are_computed_in_double: They are widened before anything is computed.",
        "widening", exactly(narrow)),
    law("long_double_is_kept: Observations in long double give long double.",
        "long_double", dtype_of(np.longdouble, np.longdouble)),
    law("the_dtype_that_is_asked_for_is_that_of_the_result: With dtype=float32 the result is float32.",
        "dtype", each(
        lambda f, d, kind: typed(exact(f, d, table(5, 2) / 7, {"dtype": kind}), kind),
        lambda d: (np.float32, np.float64))),
)

FEATURES = {
    "rowvar": "`rowvar`: samples in columns",
    "bias": "`bias`: divide by N",
    "ddof": "`ddof`: any whole number",
    "aweights": "`aweights`: importances",
    "fweights": "`fweights`: repetitions",
    "dtype": "`dtype`: that of the result",
    "stacks": "observations (..., N, C)",
    "weight_stacks": "weights (..., N), which differ between the items of a stack",
    "complex": "complex observations",
    "vectors": "observations (N,), and a 0-d result of one variable",
    "degenerate": "no samples, no features or no degrees of freedom give NaN, infinities or an empty matrix",
    "warnings": "a RuntimeWarning where no degrees of freedom are left",
    "nan": "a NaN or an infinity spreads to its row and column",
    "errors": "weights that are negative, all zero, fractional (`fweights`), too few or too many are errors",
    "two_pass": "an offset of the data costs no digits; with updating formulas (Welford, Chan) it does",
    "symmetric": "real results equal their transposes to the last bit, as products of a matrix and itself do",
    "widening": "narrow data are computed in double precision, and so are the results",
    "long_double": "long double stays long double",
    "layouts": "NumPy's arrays in any order of axes, bytes and strides, and read-only ones",
    "lists": "nested lists instead of arrays",
    "symmetric_weighted": "weighted and complex results, too, equal their conjugate transposes",
    "fractional_ddof": "any real `ddof`",
    "shifted": "an offset costs nothing: a sample is subtracted first, and then the mean",
}
#: What numpy.cov itself has not got.
BEYOND_NUMPY = frozenset({"symmetric_weighted", "fractional_ddof", "shifted"})
