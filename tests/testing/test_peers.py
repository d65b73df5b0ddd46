"""The kit on other people's implementations, by the features that they have.

Each keeps all laws but those that are named here, and why.
"""

import numpy as np
import peers
import pytest
from test_mutants import broken

from mvgauss.testing import FEATURES, cov_checks, exact_cov, gaussian_checks, pinv_checks

NUMPY = set(FEATURES["cov"]) - {"symmetric_weighted", "fractional_ddof", "shifted"}
ARGUMENTS = {"rowvar", "bias", "ddof", "aweights", "fweights", "complex", "vectors", "nan", "two_pass"}
GUARDS = {"degenerate", "errors"}

WIDE = {"two_pass", "layouts", "lists", "widening", "long_double"}

#: For each peer its checks, the modules it needs, its function, its arrays and its features.
PEERS = {
    "numpy.cov, in a loop": (cov_checks, [np], peers.numpy_loop, None, NUMPY),
    "torch.cov": (cov_checks, [peers.torch], peers.torch_cov, "torch", ARGUMENTS | GUARDS),
    "jax.numpy.cov": (cov_checks, [peers.jax], peers.jax_cov, "jax", ARGUMENTS | {"degenerate"}),
    "array_api_extra.cov": (
        *(cov_checks, [peers.xpx], peers.extra_cov, None),
        NUMPY - {"weight_stacks", "lists", "dtype", "symmetric"},
    ),
    "array_api_extra.cov, strict arrays": (
        *(cov_checks, [peers.xpx, peers.strict], peers.extra_cov, "strict"),
        ARGUMENTS | {"degenerate", "warnings"},
    ),
    "array_api_extra.cov, torch": (
        *(cov_checks, [peers.xpx, peers.torch], peers.extra_cov, "torch"),
        ARGUMENTS | GUARDS | {"fractional_ddof"},
    ),
    "scikit-learn EmpiricalCovariance": (
        *(cov_checks, [peers.sklearn], peers.sklearn_cov, None),
        {"rowvar", "bias", "ddof", "vectors"} | WIDE,
    ),
    "pyRiemann scm": (
        *(cov_checks, [peers.pyriemann], peers.pyriemann_scm, None),
        {"rowvar", "bias", "ddof", "aweights", "stacks", "complex", "vectors", "nan"} | WIDE,
    ),
    "pyRiemann cov": (
        *(cov_checks, [peers.pyriemann], peers.pyriemann_cov, None),
        NUMPY - {"aweights", "fweights", "weight_stacks"},
    ),
    "anomalib's formulas, covariance": (
        *(cov_checks, [peers.torch], peers.original_cov, "torch"),
        {"rowvar", "bias", "ddof", "aweights", "vectors", "nan", "two_pass"},
    ),
    "numpy.linalg.pinv, hermitian": (
        pinv_checks,
        [np],
        peers.numpy_pinv,
        None,
        {"rtol", "stacks", "layouts"},
    ),
    "scipy.linalg.pinvh": (pinv_checks, [peers.scipy], peers.scipy_pinvh, None, {"rtol", "return_rank"}),
    "torch.linalg.pinv, hermitian": (
        *(pinv_checks, [peers.torch], peers.torch_pinv, "torch"),
        {"rtol", "stacks"},
    ),
    "anomalib's formulas, estimator": (
        gaussian_checks,
        [peers.torch],
        peers.Original,
        "torch",
        {"unpacking"},
    ),
}

#: The laws that a peer breaks; all others break none.
BROKEN = {
    # it has no guard on degrees of freedom
    "jax.numpy.cov": {"no_degrees_of_freedom_give_inf_or_nan"},
    # it squeezes every axis of length one
    "array_api_extra.cov": {"a_stack_of_one_keeps_its_axis", "one_feature_in_a_stack_keeps_its_axes"},
    # they take one row for one sample, whatever rowvar says
    "anomalib's formulas, covariance": {"rowvar_puts_samples_in_columns", "a_vector_is_one_variable"},
}


def converter(name):
    """Return what makes arrays of a library."""
    return {
        None: lambda: None,
        "torch": lambda: peers.torch.asarray,
        "jax": lambda: peers.jax.asarray,
        "strict": lambda: peers.strict.asarray,
    }[name]()


#: JAX compiles for each shape, for which once is slow enough.
CASES = [
    (name, dtype)
    for name in PEERS
    for dtype in (np.float64, np.float32)
    if name != "jax.numpy.cov" or dtype == np.float64
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_a_peer_breaks_just_the_laws_that_are_named(name, dtype):
    suite, modules, function, arrays, features = PEERS[name]
    if any(module is None for module in modules):
        pytest.skip(f"{name} is not installed")
    checks = suite(features=features, asarray=converter(arrays), dtype=dtype)
    named = BROKEN.get(name, set())
    assert named <= {check.name for check in checks}
    assert set(broken(checks, function)) == named


def test_numpy_needs_no_list_of_features():
    assert {c.name for c in cov_checks()} == {c.name for c in cov_checks(features=NUMPY)}


@pytest.mark.slow
def test_features_of_numpys_arrays_are_left_out_for_others():
    names = {c.name for c in cov_checks()} - {c.name for c in cov_checks(asarray=np.asarray)}
    assert {
        "memory_layouts_do_not_matter",
        "nested_lists_are_taken_as_arrays",
        "long_double_is_kept",
    } <= names
    assert broken(cov_checks(asarray=np.asarray), peers.numpy_loop) == []


@pytest.mark.skipif(peers.torch is None, reason="torch is not installed")
def test_a_tensor_that_is_written_to_is_found_out():
    def writes(x):
        x -= x.mean(0)
        return x.T @ x / (len(x) - 1)

    assert broken(cov_checks(features=(), asarray=peers.torch.asarray), writes) == ["no_input_is_written_to"]


@pytest.mark.slow
def test_the_oracle_keeps_the_laws_itself():
    """All but the warning: an oracle says what is exact, and nothing else."""
    assert broken(cov_checks(beyond_numpy=True), exact_cov) == ["no_degrees_of_freedom_warn"]
