"""What a failing check says, and how checks are chosen."""

import mutants
import numpy as np
import pytest

from mvgauss.testing import assert_within, check_cov, check_gaussian, check_pinv, cov_checks, pinv_checks


def test_a_failing_check_says_law_input_expected_and_got():
    check = next(c for c in cov_checks() if c.name == "bias_divides_by_n")
    with pytest.raises(AssertionError) as caught:
        check(mutants.BiasIsIgnored())
    law, call, expected, got = str(caught.value).splitlines()
    assert law == "bias_divides_by_n: With bias=True the divisor is that of ddof=0."
    assert call == "    call:     f([[-7.], [ 3.]], bias=True)"  # the smallest input: two numbers
    assert expected.startswith("    expected: 25., off by at most ")
    assert got == "    got:      50., off by 25"


def test_all_broken_laws_are_listed_at_once():
    with pytest.raises(AssertionError, match=r"^\d+ of \d+ laws broken:") as caught:
        check_cov(mutants.BiasIsIgnored(), features=["bias", "ddof"])
    text = str(caught.value)
    assert "bias_divides_by_n: " in text
    assert "ddof_overrides_bias: " not in text


def test_an_exception_breaks_the_law_and_is_named():
    def unfinished(observations, **_):
        raise NotImplementedError("later")

    check = cov_checks()[0]
    with pytest.raises(AssertionError, match=r"got: +NotImplementedError: later") as caught:
        check(unfinished)
    assert isinstance(caught.value.__cause__, NotImplementedError)


@pytest.mark.parametrize("answer", [None, "text", [[1], [2, 3]], np.nan])
def test_any_answer_is_judged(answer):
    with pytest.raises(AssertionError, match="laws broken"):
        check_cov(lambda observations, **_: answer)


def test_laws_are_skipped_by_name():
    check_cov(
        mutants.BiasIsTheDefault(),
        skip=[
            c.name
            for c in cov_checks()
            if c.name not in {"bias_divides_by_n", "nested_lists_are_taken_as_arrays"}
        ]
        + ["nested_lists_are_taken_as_arrays"],
    )
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
    check_cov(lambda x: mutants.Cov()(x), features=[])


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


def test_names_are_unique_and_laws_are_sentences():
    for checks in (cov_checks(beyond_numpy=True), pinv_checks()):
        assert len({check.name for check in checks}) == len(checks)
        assert all(check.statement.endswith(".") for check in checks)
        assert all("\n" not in check.statement for check in checks)
        assert all(check.__name__ == check.name for check in checks)
