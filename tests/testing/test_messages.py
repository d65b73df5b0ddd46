"""What a failing check says, and how checks are chosen."""

import numpy as np
import pytest
import reference
from mutants import mutant

import mvgauss
from mvgauss.testing import (
    assert_within,
    check_cov,
    check_gaussian,
    check_mahalanobis,
    check_pinv,
    cov_checks,
    gaussian_checks,
    mahalanobis_checks,
    pinv_checks,
)

BIAS_IS_IGNORED = mutant("cov", "ddof = 1 if ddof is None else ddof")


def textbook(x):
    """Return the covariance of samples in rows."""
    z = x - x.mean(axis=0)
    return z.T @ z / (len(x) - 1)


def quadratic_form(x, mean, p):
    """Return distances as they are often written."""
    z = x - mean
    return np.sqrt(np.einsum("ni,ij,nj->n", z, p, z))


class NoScore:
    """An estimator without distances, as anomalib's."""

    def fit(self, embedding):
        self.mean, self.inv_covariance = reference.Gaussian().fit(embedding)
        return self.mean, self.inv_covariance


def report(check, *args, **options):
    """Return the report of a check that fails."""
    with pytest.raises(AssertionError) as caught:
        check(*args, **options)
    text = str(caught.value)
    assert max(map(len, text.splitlines())) <= 160
    return text


def test_a_failing_check_says_law_features_input_expected_and_got():
    check = next(c for c in cov_checks() if c.name == "bias_divides_by_n")
    law, call, expected, got = report(check, BIAS_IS_IGNORED).splitlines()
    assert law == "bias_divides_by_n [bias]: With bias=True the divisor is that of ddof=0."
    assert call == "    call:     f([[-7.], [ 3.]], bias=True)"  # the smallest input: two numbers
    assert expected.startswith("    expected: 25., off by at most ")
    assert got == "    got:      50., off by 25"


def test_all_broken_laws_are_listed_at_once():
    text = report(check_cov, mutant("cov", "z = x - mean.mean(axis=tuple(range(x.ndim - 2)), keepdims=True)"))
    assert text.startswith("7 of ")
    assert "\n\neach_item_of_a_stack_has_its_own_covariance [stacks]: " in text
    assert "\n\nsamples_of_a_stack_may_be_in_columns [stacks, rowvar]: " in text
    assert "samples_are_in_rows" not in text


def test_a_report_begins_with_what_is_missing_and_the_call_that_leaves_it_out():
    text = report(check_cov, textbook)
    head = " ".join(text.split("\n\n")[0].split())
    assert "missing: rowvar, bias, ddof, aweights, fweights, dtype, stacks, weight_stacks, complex" in head
    assert 'without: check_cov(func, features=["degenerate", "nan", "errors", "two_pass"' in head
    assert "unexpected keyword argument 'aweights'" not in text
    assert len(text.splitlines()) < 80


def test_the_call_that_leaves_out_what_is_missing_passes():
    assert 'features=["symmetric", "errors", "dtypes", "layouts"]' in report(check_gaussian, NoScore).replace(
        '"unpacking", ', ""
    )
    check_gaussian(NoScore, features=["unpacking", "symmetric", "errors", "dtypes", "layouts"])


def test_laws_that_end_in_the_same_error_are_listed_once():
    def loop(x, rowvar=False, **options):
        return np.cov(x, rowvar=rowvar, **options)

    text = report(check_cov, loop)
    # and more before NumPy 2.2, which takes a single row in another way
    assert "missing:  stacks, weight_stacks" in text
    assert text.count("m has more than 2 dimensions") == 1
    assert "same for: samples_of_a_stack_may_be_in_columns, aweights_apply" in text
    assert len(text.splitlines()) < 30


def test_samples_that_are_taken_from_columns_are_told_of_alone():
    text = report(check_cov, np.cov)
    assert "hint:     samples are taken from columns; hand over the transpose" in text
    assert len(text.splitlines()) < 10


def test_the_errors_of_single_precision_are_told_of():
    hint = "hint:     the errors are those of single precision; if that is meant, check with dtype=np.float32"
    single = {
        check_cov: lambda x: textbook(x.astype(np.float32)),
        check_pinv: lambda s: np.linalg.pinv(s.astype(np.float32), hermitian=True),
        check_gaussian: mutant("Gaussian", "z = (x - mean).astype(np.float32)"),
    }
    for check, function in single.items():
        assert hint in report(check, function, features=[])
    assert hint in report(cov_checks()[0], lambda x: textbook(x.astype(np.float32)).astype(float))
    for wrong in (lambda x: 2 * textbook(x), lambda x: textbook(x) + 1e-8):
        assert hint not in report(check_cov, wrong, features=[])


def test_a_function_of_one_argument_in_single_precision_is_told_both():
    text = report(check_cov, lambda x: textbook(np.asarray(x, np.float32)))
    assert "hint:     the errors are those of single precision" in text
    assert "missing:  rowvar, bias, ddof, aweights, fweights, dtype\n" in text
    assert "unexpected keyword argument 'aweights'" not in text


def test_the_root_of_a_negative_square_is_told_its_remedy():
    text = report(check_mahalanobis, quadratic_form, features=[])
    assert text.startswith("1 of ")
    assert "hint:     a square is negative by rounding; take np.sqrt(np.maximum(squares, 0))" in text


@pytest.mark.parametrize(
    ("check", "wrong", "message"),
    [
        (
            check_gaussian,
            mvgauss.MultiVariateGaussian(),
            "factory: .*, such as its class, got an estimator",
        ),
        (check_cov, np.eye(3), r"func: expected a callable, got an array of shape \(3, 3\)"),
        (check_pinv, None, "func: expected a callable, got NoneType"),
        (gaussian_checks()[3], np.eye(3), "factory: expected a callable that makes an estimator"),
    ],
)
def test_what_cannot_be_checked_is_refused_in_one_line(check, wrong, message):
    with pytest.raises(TypeError, match=f"^{message}") as caught:
        check(wrong)
    assert "\n" not in str(caught.value)


def test_an_exception_breaks_the_law_and_is_named():
    def unfinished(observations, **_):
        raise NotImplementedError("later")

    check = cov_checks()[0]
    with pytest.raises(AssertionError, match=r"got: +NotImplementedError: later") as caught:
        check(unfinished)
    assert isinstance(caught.value.__cause__, NotImplementedError)


@pytest.mark.parametrize("answer", [None, "text", [[1], [2, 3]], np.nan])
def test_any_answer_is_judged(answer):
    assert "laws broken" in report(check_cov, lambda observations, **_: answer)


def test_laws_are_skipped_by_name():
    check_cov(BIAS_IS_IGNORED, skip=["bias_divides_by_n"])
    assert len(pinv_checks(skip=["no_ridge_is_added"])) == len(pinv_checks()) - 1


@pytest.mark.parametrize("skip", [["no_such_law"], "no_ridge_is_added"])
def test_an_unknown_law_is_not_skipped_silently(skip):
    with pytest.raises(ValueError, match=r"skip: expected a collection of some of .*no_ridge_is_added"):
        check_pinv(None, skip=skip)


@pytest.mark.parametrize("features", [["fweight"], "stacks"])
def test_an_unknown_feature_is_not_left_out_silently(features):
    with pytest.raises(ValueError, match=r"features: expected a collection of some of .*, got .*'"):
        check_cov(None, features=features)


def test_laws_of_other_features_are_left_out():
    names = {c.name for c in cov_checks(features={"aweights", "stacks"})}
    assert "aweights_apply_to_every_item_of_a_stack" in names
    assert not {"fweights_apply_to_every_item_of_a_stack", "aweights_may_differ_between_items"} & names
    check_cov(lambda x: reference.cov(x), features=[])


class Foreign:
    """An array that speaks DLPack only."""

    def __init__(self, array):
        self.array = np.asarray(array)

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def test_arrays_go_and_come_back_as_those_of_another_library():
    def cov(x):
        assert type(x) is Foreign
        assert x.array.flags.c_contiguous
        return Foreign(np.cov(x.array, rowvar=False))

    check_cov(cov, features=["symmetric"], asarray=Foreign)


def test_an_answer_is_within_its_bound_or_the_message_says_where_it_is_not():
    assert_within([[1.0, np.nan], [np.inf, 2.5]], [[1, np.nan], [np.inf, 2]], 0.5)
    with pytest.raises(
        AssertionError, match=r"expected: \[1., 2.\], off at \[1\] by at most 0.1\n.*off at \[1\] by 0.5"
    ):
        assert_within([1.0, 2.5], [1.0, 2.0], [0.0, 0.1])
    for wrong in ([1.0], [1.0, np.inf], [np.nan, 2.0]):
        with pytest.raises(AssertionError, match="assert_within"):
            assert_within(wrong, [1.0, 2.0], 1.0)
    with pytest.raises(AssertionError, match="assert_within"):
        assert_within([1.0, -np.inf], [1.0, np.inf], 1.0)


def test_single_precision_leaves_out_what_concerns_dtypes():
    names = {c.name for c in cov_checks()} - {c.name for c in cov_checks(dtype=np.float32)}
    assert names == {
        "complex_results_are_at_least_double",
        "long_double_is_kept",
        "narrow_data_are_computed_in_double",
        "the_dtype_that_is_asked_for_is_that_of_the_result",
        "the_result_is_at_least_double",
    }


@pytest.mark.parametrize("check", [check_cov, check_pinv, check_gaussian])
def test_other_precisions_are_refused(check):
    with pytest.raises(ValueError, match="dtype: expected float32 or float64, got float16"):
        check(None, dtype=np.float16)


@pytest.mark.parametrize(
    "checks", [cov_checks(beyond_numpy=True), pinv_checks(), mahalanobis_checks(), gaussian_checks()]
)
def test_names_are_unique_and_statements_are_sentences_that_say_more(checks):
    assert len({check.name for check in checks}) == len(checks)
    for check in checks:
        assert check.statement.endswith(".")
        assert "\n" not in check.statement
        assert check.statement.lower().rstrip(".").replace(" ", "_") != check.name
        assert check.__name__ == check.name
