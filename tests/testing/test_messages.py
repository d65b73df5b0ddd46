"""What a failing check says, and how checks are chosen."""

import mutants
import numpy as np
import pytest

from mvgauss.testing import check_cov, check_gaussian, check_pinv, cov_checks, pinv_checks


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
    with pytest.raises(AssertionError, match=r"^\d+ of 63 laws broken:") as caught:
        check_cov(mutants.BiasIsIgnored())
    text = str(caught.value)
    assert "bias_divides_by_n: " in text
    assert "ddof_wins_over_bias: " not in text


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
        skip=[c.name for c in cov_checks() if c.name not in {"bias_divides_by_n", "lists_are_arrays"}]
        + ["lists_are_arrays"],
    )
    assert len(pinv_checks(skip=["no_ridge_is_added"])) == len(pinv_checks()) - 1


@pytest.mark.parametrize("skip", [["no_such_law"], "no_ridge_is_added"])
def test_an_unknown_law_is_not_skipped_silently(skip):
    with pytest.raises(ValueError, match=r"skip: expected names of laws, got .*no_ridge_is_added"):
        check_pinv(None, skip=skip)


@pytest.mark.parametrize("check", [check_cov, check_pinv, check_gaussian])
def test_other_precisions_are_refused(check):
    with pytest.raises(ValueError, match="dtype: expected float32 or float64, got float16"):
        check(None, dtype=np.float16)


def test_names_are_unique_and_laws_are_sentences():
    for checks in (cov_checks(beyond_numpy=True), pinv_checks()):
        assert len({check.name for check in checks}) == len(checks)
        assert all(check.statement.endswith(".") for check in checks)
        assert all("\n" not in check.statement for check in checks)
        assert all(str(check) == check.__name__ == check.name for check in checks)
