"""The kit on other people's implementations: each breaks just the laws that are named here, and why."""

import numpy as np
import peers
import pytest
from test_mutants import broken

from mvgauss.testing import cov_checks, exact_cov, gaussian_checks, pinv_checks

AWEIGHTS = {
    "the_offset_of_weighted_data_does_not_either",
    "complex_data_may_have_aweights",
    "aweights_serve_every_item_of_a_stack",
    "with_aweights_the_divisor_uses_their_squares",
    "with_ddof_0_the_divisor_is_the_sum_of_aweights",
    "the_mean_is_weighted",
    "weights_count_once",
    "equal_aweights_change_nothing",
    "scaling_aweights_changes_nothing",
    "a_zero_aweight_drops_the_row",
    "weights_follow_their_samples",
    "weight_on_a_single_row_gives_nan",
    "no_aweights_are_written_to",
}
FWEIGHTS = {
    "fweights_serve_every_item_of_a_stack",
    "with_fweights_the_divisor_is_their_sum_minus_ddof",
    "with_both_weights_the_divisor_uses_f_a_squared",
    "fweights_repeat_rows",
    "a_zero_fweight_drops_the_row",
    "no_fweights_are_written_to",
}
WEIGHTS_OF_ITEMS = {"aweights_may_differ_between_items", "fweights_may_differ_between_items"}
STACKS = {
    "each_item_of_a_stack_is_a_call_of_its_own",
    "aweights_serve_every_item_of_a_stack",
    "fweights_serve_every_item_of_a_stack",
    "a_stack_of_one_keeps_its_axis",
    "one_feature_in_a_stack_keeps_its_axes",
    "nan_stays_in_its_item",
}
COMPLEX = {
    "complex_data_conjugate_the_second_factor",
    "complex_data_may_have_aweights",
    "complex_variances_are_real",
}

#: For each peer its suite, the function, and the laws that it breaks, by reason.
PEERS = {
    "numpy.cov, in a loop": ("cov", np, peers.numpy_loop, {}),
    "torch.cov": (
        "cov",
        peers.torch,
        peers.torch_cov,
        {
            "at most two dimensions": STACKS | WEIGHTS_OF_ITEMS,
            "warns with a UserWarning": {"no_degrees_of_freedom_warn"},
            "keeps the dtype, refuses bool, has no long double": {
                "the_result_is_at_least_double",
                "long_double_is_kept",
                "narrow_data_are_computed_in_double",
            },
            "no dtype": {"dtype_is_that_of_the_result"},
        },
    ),
    "array_api_extra.cov": (
        "cov",
        peers.xpx,
        peers.extra_cov,
        {
            "one vector of weights": WEIGHTS_OF_ITEMS,
            "squeezes every axis of length one": {
                "a_stack_of_one_keeps_its_axis",
                "one_feature_in_a_stack_keeps_its_axes",
            },
            "no dtype": {"dtype_is_that_of_the_result"},
        },
    ),
    "scikit-learn EmpiricalCovariance": (
        "cov",
        peers.sklearn,
        peers.sklearn_cov,
        {
            "no weights": AWEIGHTS | FWEIGHTS | WEIGHTS_OF_ITEMS,
            "two dimensions": STACKS,
            "refuses complex data": COMPLEX | {"the_result_is_at_least_double"},
            "refuses NaN and empty data": {
                "nan_spreads_to_its_row_and_column",
                "no_samples_give_nan",
                "no_features_give_an_empty_matrix",
            },
            "a divisor of N has always enough freedom": {
                "one_row_is_one_sample",
                "no_degrees_of_freedom_give_inf_or_nan",
                "no_degrees_of_freedom_warn",
            },
            "no dtype": {"dtype_is_that_of_the_result"},
        },
    ),
    "pyRiemann scm": (
        "cov",
        peers.pyriemann,
        peers.pyriemann_scm,
        {
            "one vector of aweights": WEIGHTS_OF_ITEMS,
            "no fweights": FWEIGHTS,
            "a divisor of sum(w) has always enough freedom": {
                "no_samples_give_nan",
                "no_degrees_of_freedom_give_inf_or_nan",
                "no_degrees_of_freedom_warn",
            },
            "weights are not looked at": {
                "negative_weights_are_refused",
                "weights_that_are_all_zero_are_refused",
            },
            "no dtype": {"dtype_is_that_of_the_result"},
        },
    ),
    "pyRiemann cov": (
        "cov",
        peers.pyriemann,
        peers.pyriemann_cov,
        {"no weights": AWEIGHTS | FWEIGHTS | WEIGHTS_OF_ITEMS},
    ),
    "anomalib's formulas, covariance": (
        "cov",
        peers.torch,
        peers.original_cov,
        {
            "at most two dimensions": STACKS | WEIGHTS_OF_ITEMS,
            "no fweights": FWEIGHTS,
            "does not conjugate": COMPLEX,
            "takes one row for one variable": {"one_row_is_one_sample"},
            "no guard on degrees of freedom": {
                "no_samples_give_nan",
                "no_degrees_of_freedom_give_inf_or_nan",
                "no_degrees_of_freedom_warn",
            },
            "weights are not looked at": {
                "negative_weights_are_refused",
                "weights_that_are_all_zero_are_refused",
            },
            "keeps the dtype, and takes only floating ones": {
                "the_result_is_at_least_double",
                "long_double_is_kept",
                "narrow_data_are_computed_in_double",
            },
            "no dtype": {"dtype_is_that_of_the_result"},
        },
    ),
    "numpy.linalg.pinv, hermitian": (
        "pinv",
        np,
        peers.numpy_pinv,
        {
            "no rank": {"the_rank_counts_what_is_kept"},
            "looks at moduli": {"a_negative_rounding_error_is_dropped", "what_is_negative_is_refused"},
            "reads one triangle": {"what_is_not_symmetric_is_refused"},
            "NaN gives zeros": {"what_is_not_finite_is_refused"},
            "refuses whole numbers": {"the_dtype_is_that_of_the_data"},
        },
    ),
    "scipy.linalg.pinvh": (
        "pinv",
        peers.scipy,
        peers.scipy_pinvh,
        {
            "looks at moduli": {"a_negative_rounding_error_is_dropped", "what_is_negative_is_refused"},
            "reads one triangle": {"what_is_not_symmetric_is_refused"},
        },
    ),
    "torch.linalg.pinv, hermitian": (
        "pinv",
        peers.torch,
        peers.torch_pinv,
        {
            "no rank": {"the_rank_counts_what_is_kept"},
            "looks at moduli": {"a_negative_rounding_error_is_dropped", "what_is_negative_is_refused"},
            "reads one triangle": {"what_is_not_symmetric_is_refused"},
            "NaN gives zeros": {"what_is_not_finite_is_refused"},
            "refuses whole numbers": {"the_dtype_is_that_of_the_data"},
        },
    ),
    "anomalib's formulas, estimator": (
        "gaussian",
        peers.torch,
        peers.Original,
        {
            "no guard on samples and NaN": {"too_few_samples_are_refused", "what_is_not_finite_is_refused"},
            "computes in single precision": {"single_precision_is_computed_in_double"},
        },
    ),
}
#: Laws whose breaking depends on the machine's BLAS, or on the version of the peer.
MAYBE = {
    "the_result_is_symmetric_to_the_last_bit",
    "the_inverse_is_symmetric_to_the_last_bit",
    "long_double_is_kept",
}
MAYBE_SCIPY = {"a_stack_is_a_loop", "a_stack_of_one_keeps_its_axis"}  # stacks since SciPy 1.15 or so


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_breaks_just_the_laws_that_are_named(name):
    suite, module, function, reasons = PEERS[name]
    if module is None:
        pytest.skip(f"{name} is not installed")
    checks = {"cov": cov_checks, "pinv": pinv_checks, "gaussian": gaussian_checks}[suite]()
    maybe = set() if name == "numpy.cov, in a loop" else MAYBE | (MAYBE_SCIPY if "scipy" in name else set())
    named = set().union(*reasons.values())
    assert named <= {check.name for check in checks}
    assert set(broken(checks, function)) - maybe == named - maybe


def test_the_oracle_keeps_the_laws_itself():
    """All but the warning: an oracle says what is exact, and nothing else."""
    assert broken(cov_checks(beyond_numpy=True), exact_cov) == ["no_degrees_of_freedom_warn"]


@pytest.mark.skipif(peers.torch is None, reason="torch is not installed")
def test_torch_in_single_precision_is_right_for_single_precision():
    """With the bounds of single precision only shapes and guards are left."""
    laws = set(broken(cov_checks(dtype=np.float32), peers.torch_cov)) - MAYBE
    assert laws == STACKS | WEIGHTS_OF_ITEMS | {"no_degrees_of_freedom_warn"}


@pytest.mark.skipif(peers.torch is None, reason="torch is not installed")
def test_the_original_in_single_precision_is_right_for_single_precision():
    laws = set(broken(gaussian_checks(dtype=np.float32), peers.Original)) - MAYBE
    assert laws == {"too_few_samples_are_refused", "what_is_not_finite_is_refused"}
