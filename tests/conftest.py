"""What all tests share: Hypothesis without a clock, and the path to `common`."""

import gc
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from threadpoolctl import ThreadpoolController

sys.path.insert(0, str(Path(__file__).parent))  # importlib mode leaves `common` out of reach
sys.path.append(str(Path(__file__).parents[1]))  # and `benchmarks`, behind the package that is installed
pytest.register_assert_rewrite("common")

from common import blocks_of, frozen  # noqa: E402

from mvgauss import MultiVariateGaussian  # noqa: E402
from mvgauss._runtime import threads  # noqa: E402

QUICK = settings(deadline=None, derandomize=True, max_examples=20, database=None)
settings.register_profile("quick", QUICK)
settings.register_profile("full", QUICK, max_examples=40)  # with --hypothesis-profile=full, as in `.ci/run`
settings.load_profile("quick")
BLAS = ThreadpoolController()


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Keep what is imported and collected out of garbage collections, each of which would walk all of it."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="module", autouse=True)
def blas_on_one_thread():
    """Hold BLAS to one thread where pytest has several workers, and let the package start its own as ever.

    Threads of BLAS that wait for a core in use by another worker spin: small matrices take a hundred
    times as long.
    """
    count = threads.blas_threads()
    if "PYTEST_XDIST_WORKER" not in os.environ:
        yield
        return
    with pytest.MonkeyPatch.context() as patch, BLAS.limit(limits=1, user_api="blas"):
        patch.setattr(threads, "blas_threads", lambda: count)
        yield


@pytest.fixture
def rng():
    """Random numbers of this test's own, the same in any order of the tests."""
    return np.random.default_rng(20201117)


@pytest.fixture(params=[1, 4 << 20], ids=["tiny blocks", "large blocks"])
def any_blocks(request):
    """Run a test with one and with all items of a stack in a block; property tests draw what is between."""
    with blocks_of(request.param):
        yield


@pytest.fixture
def train(rng):
    """Return 30 good images of 4 features on a grid, which `model` is fitted on."""
    return frozen(rng.standard_normal((30, 4, 2, 3)) + 2)


@pytest.fixture
def test(rng):
    return frozen(1.5 * rng.standard_normal((7, 4, 2, 3)) + 2)


@pytest.fixture
def model(train):
    return MultiVariateGaussian().fit(train)
