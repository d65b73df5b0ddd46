"""All or nothing: a fault at any step leaves the model, the file and BLAS as they were before.

A step is a line of the package. A tracer raises in front of the k-th line that a call executes, for
every k. (Not where a ``with`` block ends without an error: the interpreter delivers no interrupt
between the end of the block and `__exit__`.)
"""

import contextlib
import copy
import dis
import functools
import itertools
import operator
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from common import OnDisk, blocks_of, frozen
from threadpoolctl import ThreadpoolController

import mvgauss
from mvgauss import MultiVariateGaussian
from mvgauss._runtime import threads

PACKAGE = str(Path(mvgauss.__file__).parent)
BLAS = ThreadpoolController().select(user_api="blas")
ERRORS = [MemoryError, KeyboardInterrupt]


# ---- the tracer


@functools.cache
def ends_a_with(code, offset):
    """Return whether the line at an offset does nothing but leave a ``with`` block."""
    after = [i for i in dis.get_instructions(code) if i.offset >= offset and i.opname not in ("SWAP", "NOP")]
    return [i.argval for i in after[:3] if i.opname == "LOAD_CONST"] == [None] * 3


class Tracer:
    """Raises in front of one of the lines of the package that are executed, but of some files."""

    def __init__(self, fails, error, excluded=()):
        self.left, self.error, self.excluded, self.where = fails, error, excluded, None

    def __call__(self, frame, event, _):
        file = frame.f_code.co_filename
        if not file.startswith(PACKAGE) or file in self.excluded:
            return None
        if event == "line" and not ends_a_with(frame.f_code, frame.f_lasti):
            self.left -= 1
            if self.left == 0:
                self.where = f"{Path(file).name}:{frame.f_lineno}"
                raise self.error
        return self

    def __enter__(self):
        self.outer = sys.gettrace()
        sys.settrace(self)

    def __exit__(self, *_):
        sys.settrace(self.outer)


def every_step(call, fresh, error, excluded=()):
    """Yield (model, where, done) after ``call(fresh())`` with a fault in front of each of its lines."""
    for k in itertools.count(1):
        tracer, done, model = Tracer(k, error, excluded), True, fresh()
        try:
            with tracer:
                call(model)
        except (error, TypeError, ValueError):  # the checks and the reader raise errors of their own
            done = False
        if tracer.where is None:
            assert k > 20, "no step was found"
            return
        yield model, tracer.where, done


def engine():
    """Return BLAS's threads and the switch interval."""
    return [library.num_threads for library in BLAS.lib_controllers], sys.getswitchinterval()


# ---- the model

N, C, P = 5, 2, 3


def saved(model, path):
    """Save, and return what is in the file."""
    model.save(path)
    return path.read_bytes()


@pytest.fixture
def x(rng):
    return frozen(rng.standard_normal((N, C, P)))


@pytest.fixture
def bits(tmp_path, monkeypatch):
    """What returns everything that a model keeps, as a number that can be compared."""
    monkeypatch.setattr(os, "fsync", lambda _: None)  # nor wait for the disk each time

    def of(model):
        if not model.__sklearn_is_fitted__():
            return None
        (tmp_path / "bits").mkdir(exist_ok=True)
        return saved(model, tmp_path / "bits" / "model")

    return of


def few(x):
    """Return samples of more features than there are samples, which are kept as rows."""
    return np.concatenate([x, x**2, x**3, np.sin(x)], axis=1)


OTHER = MultiVariateGaussian(n_jobs=1).fit(np.random.default_rng(1).standard_normal((N, C, P)))

#: What is called on a fitted model, and the options of the model.
CALLS = {
    "fit": (lambda m, x: m.fit(x + 1), {}),
    "fit weighted": (lambda m, x: m.fit(x + 1, sample_weight=np.arange(1.0, N + 1)), {}),
    "fit singular": (lambda m, x: m.fit(x[:2] + 1), {"reg_covar": 0}),
    "fit from disk": (lambda m, x: m.fit(OnDisk(x + 1)), {}),
    "fit rows": (lambda m, x: m.fit(few(x + 1)), {}),
    "partial_fit": (lambda m, x: m.partial_fit(x + 1), {}),
    "partial_fit ledoit_wolf": (lambda m, x: m.partial_fit(x + 1), {"shrinkage": "ledoit_wolf"}),
    "partial_fit from disk": (lambda m, x: m.partial_fit(OnDisk(x + 1)), {}),
    "merge": (lambda m, x: m.merge(OTHER), {}),
    "calibrate": (lambda m, x: m.calibrate(x), {}),
    "threshold": (lambda m, x: m.threshold(x, 0.5, source="training"), {}),
    "mahalanobis": (lambda m, x: m.mahalanobis(x), {}),
    "leave_one_out": (lambda m, x: m.leave_one_out(x), {"shrinkage": 0.5}),
}


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(MultiVariateGaussian, "read_bytes", 2 * C * P * 8)


@pytest.mark.slow
@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("name", list(CALLS))
def test_a_fault_at_any_step_of_a_call_leaves_the_model_as_it_was(x, name, error, bits, small_parts):
    call, options = CALLS[name]
    start = MultiVariateGaussian(**options, n_jobs=1).partial_fit(x)
    want = copy.copy(start)
    call(want, x)
    factored = copy.copy(start)
    factored.rank  # noqa: B018, which makes the factors of a stream
    before, after, first_use = bits(start), bits(want), bits(factored)
    # not while settings of the process change, which takes microseconds
    excluded = (threads.__file__,)
    for model, where, done in every_step(lambda m: call(m, x), lambda: copy.copy(start), error, excluded):
        assert bits(model) in ((after,) if done else (before, first_use, after)), where
        call(model, x)  # nothing waits for ever
    assert bits(start) == before


@pytest.mark.slow
@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_a_first_fit_that_fails_leaves_an_unfitted_model_or_the_fitted_one(x, error, method, bits):
    fresh, call = functools.partial(MultiVariateGaussian, n_jobs=1), operator.methodcaller(method, x)
    want = bits(call(fresh()))
    for model, where, done in every_step(call, fresh, error, (threads.__file__,)):
        assert bits(model) in ((want,) if done else (None, want)), where


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fit", "partial_fit", "merge", "mahalanobis", "fit from disk"])
def test_a_fault_at_any_step_leaves_blas_its_threads_and_the_interval(x, name, small_parts):
    """But a fault while these are changed themselves, which takes microseconds."""
    call, options = CALLS[name]
    start, before = MultiVariateGaussian(**options, n_jobs=1).partial_fit(x), engine()
    steps = every_step(lambda m: call(m, x), lambda: copy.copy(start), KeyboardInterrupt, (threads.__file__,))
    with blocks_of(1):
        for _, where, _ in steps:
            assert engine() == before, where


def test_a_fault_at_any_step_of_lowering_the_settings_restores_them():
    """Where none comes while they are restored."""
    before = engine()
    for k in itertools.count(1):
        tracer, entered = Tracer(k, KeyboardInterrupt), False
        with contextlib.suppress(KeyboardInterrupt), contextlib.ExitStack() as stack:
            with tracer:
                stack.enter_context(threads.held())
            entered = True
        assert engine() == before, tracer.where
        if entered:
            break
    assert k > 10


@pytest.mark.parametrize("jobs", [1, 3])
@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
def test_an_exception_in_a_worker_comes_through_and_leaves_the_model_as_it_was(
    rng, monkeypatch, bits, jobs, error
):
    x = frozen(rng.standard_normal((4, 3, 60)))
    start = MultiVariateGaussian(n_jobs=jobs).fit(x)
    other = MultiVariateGaussian(n_jobs=1).fit(x + 1)
    before, numbers, cholesky, tried = bits(start), engine(), np.linalg.cholesky, 0
    calls = [
        lambda m: m.fit(x + 1),
        lambda m: m.partial_fit(x + 1).mahalanobis(x),
        lambda m: m.merge(other).mahalanobis(x),
    ]
    for fails, call in itertools.product((0, 2, 5), calls):
        count, model = itertools.count(), copy.copy(start)

        def failing(*args, count=count, fails=fails, **kwargs):
            if next(count) == fails:
                raise error("in a worker")
            return cholesky(*args, **kwargs)

        with blocks_of(1), monkeypatch.context() as patch:
            patch.setattr(np.linalg, "cholesky", failing)
            try:
                call(model)
            except error:
                tried += 1
        assert engine() == numbers
        assert bits(start) == before
    assert tried >= 6


@pytest.mark.parametrize("method", ["fit", "partial_fit", "calibrate", "threshold"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300])
def test_a_bad_number_in_any_place_leaves_the_model_as_it_was(x, bits, method, bad, small_parts):
    model = MultiVariateGaussian(n_jobs=1).fit(x)
    before = bits(model)
    for i in range(x.size):
        broken = x.copy()
        broken.flat[i] = bad
        for value in (broken, OnDisk(broken)):
            with pytest.raises(ValueError, match="embedding: expected "):
                getattr(model, method)(value)
    assert bits(model) == before
