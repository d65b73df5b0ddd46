"""Laws of BLAS's threads and of the switch interval: low while anybody walks, exactly as before after it."""

import contextlib
import glob
import itertools
import linecache
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from threadpoolctl import ThreadpoolController, threadpool_limits

from mvgauss import MultiVariateGaussian, _blas

SECONDS = 60
LIBRARIES = ThreadpoolController().select(user_api="blas")
ONE = [1] * len(LIBRARIES.lib_controllers)


def counts():
    """Return how many threads each BLAS of this process may use."""
    return [library.get_num_threads() for library in LIBRARIES.lib_controllers]


@pytest.fixture(scope="module", autouse=True)
def blas_on_one_thread():
    """Leave BLAS its threads here."""


@pytest.fixture(autouse=True)
def numbers_are_as_before():
    """Whatever a test does, both numbers are as before."""
    before = counts(), sys.getswitchinterval()
    yield
    assert (counts(), sys.getswitchinterval()) == before


def in_a_thread(function):
    """Call a function in a thread of its own and wait for it."""
    thread = threading.Thread(target=function)
    thread.start()
    thread.join(SECONDS)
    assert not thread.is_alive()


def test_blas_runs_one_thread_and_turns_are_short_as_long_as_it_is_held():
    before = counts(), sys.getswitchinterval()
    assert before[1] > 1e-4
    for fails in (False, True):
        with contextlib.suppress(KeyError), _blas.one_thread(), _blas.one_thread():
            assert counts() == ONE
            assert sys.getswitchinterval() <= 1e-4
            if fails:
                raise KeyError
        assert (counts(), sys.getswitchinterval()) == before


def test_short_turns_leave_blas_its_threads():
    before = counts()
    with _blas.short_turns():
        assert counts() == before
        assert sys.getswitchinterval() <= 1e-4


def test_who_has_waited_passes_the_interpreter_on_before_turns_are_long_again(monkeypatch):
    naps, sleep, before = [], time.sleep, sys.getswitchinterval()
    monkeypatch.setattr(
        time, "sleep", lambda seconds: naps.append((seconds, sys.getswitchinterval() < before))
    )
    with _blas.one_thread():
        with _blas.short_turns(), _blas.block():
            sleep(0.01)
        assert not naps
    assert naps == [(_blas.TURN, True)] * _blas._WORK_IS_KNOWN


def test_where_the_work_of_a_thread_is_not_told_all_goes_on():
    """As in a browser."""
    code = (
        "import time; del time.thread_time; import mvgauss, numpy as np; print(mvgauss.cov(np.eye(2))[0, 0])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=SECONDS)
    assert done.stdout == "0.5\n", done.stderr


def test_turns_are_short_from_the_beginning_of_a_call_to_its_end():
    """Between the walks of its blocks a call lets go of the interpreter too."""
    seen = []

    class Watched:
        shape, dtype = (9, 2, 3), np.dtype(float)

        def __getitem__(self, key):
            seen.append(sys.getswitchinterval())
            return np.arange(54.0).reshape(self.shape)[key]

    model = MultiVariateGaussian()
    for call in (model.fit, model.calibrate, model.partial_fit, model.mahalanobis, model.p_value):
        begun = len(seen)
        call(Watched())
        assert len(seen) > begun, call
    assert max(seen) <= 1e-4


def test_overlapping_holders_in_any_order_share_one_limit():
    """The thread that came first and the one that leaves last may be different ones."""
    before = counts(), sys.getswitchinterval()
    for order in itertools.permutations(range(3)):
        steps = [[threading.Event(), threading.Event(), threading.Event()] for _ in range(3)]

        def holder(began, go, ended):
            with _blas.one_thread():
                began.set()
                assert go.wait(SECONDS)
            ended.set()

        threads = [threading.Thread(target=holder, args=own) for own in steps]
        for thread, (began, _, _) in zip(threads, steps, strict=True):
            thread.start()
            assert began.wait(SECONDS)
        for k in order:
            assert counts() == ONE
            assert sys.getswitchinterval() <= 1e-4
            steps[k][1].set()
            assert steps[k][2].wait(SECONDS)
        assert (counts(), sys.getswitchinterval()) == before
        for thread in threads:
            thread.join(SECONDS)


@pytest.mark.parametrize("microseconds", [1, 20, 100, 101, 999, 5000, 123_456, 10_000_000])
def test_every_switch_interval_comes_back_exactly_and_is_never_made_longer(microseconds):
    before = sys.getswitchinterval()
    try:
        sys.setswitchinterval((microseconds + 0.5) * 1e-6)
        own = sys.getswitchinterval()
        with _blas.one_thread():
            assert sys.getswitchinterval() <= min(own, 1e-4)
        assert sys.getswitchinterval() == own
    finally:
        sys.setswitchinterval(before + 5e-7)


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_limits_of_the_caller_hold_again_after_a_walk(limit):
    before = counts()
    with threadpool_limits(limit, user_api="blas"):
        own = counts()
        with _blas.one_thread():
            assert counts() == ONE
            with threadpool_limits(2, user_api="blas"):
                assert counts() == [2] * len(ONE)
                with _blas.one_thread():
                    pass
                assert counts() == [2] * len(ONE)
            assert counts() == ONE
        assert counts() == own
    assert counts() == before


def test_a_limit_that_another_thread_owns_keeps_no_walk_from_its_own():
    """Since threadpoolctl 3.8 only one thread at a time may set a limit, for those that ask it."""
    with threadpool_limits(3, user_api="blas"):

        def walk():
            with _blas.one_thread():
                assert counts() == ONE
            seen.append(counts())

        seen = []
        in_a_thread(walk)
        assert seen == [[3] * len(ONE)]


def test_a_limit_of_the_caller_that_ends_within_a_walk_is_gone():
    before = counts()
    limit = threadpool_limits(3, user_api="blas")
    with _blas.one_thread():
        limit.restore_original_limits()
    assert counts() == before


def test_what_somebody_sets_within_a_walk_stays():
    before = sys.getswitchinterval()
    try:
        with _blas.one_thread(), _blas.one_thread():
            sys.setswitchinterval(0.25)
        assert sys.getswitchinterval() == 0.25
    finally:
        sys.setswitchinterval(before)


def test_the_threads_that_blas_may_run_are_those_outside_of_walks():
    outside = max(counts())
    assert _blas.threads() == outside
    with _blas.one_thread():
        assert _blas.threads() == outside
    with threadpool_limits(1, user_api="blas"):
        assert _blas.threads() == 1


class Library:
    """What a BLAS library looks like from threadpoolctl."""

    filepath = None

    def __init__(self, number, internal_api="openblas", layer="pthreads", numbers=None):
        self.internal_api, self.threading_layer = internal_api, layer
        self.numbers = numbers or SimpleNamespace()
        self.first = number
        self.dynlib = SimpleNamespace(_handle=sys.maxsize)

    def get_num_threads(self):
        return getattr(self.numbers, "own", self.first)

    def set_num_threads(self, number):
        self.numbers.own = number


@pytest.fixture
def libraries(monkeypatch):
    """Pretend that these are the BLAS libraries of the process."""

    def pretend(*found):
        controller = SimpleNamespace(select=lambda user_api: SimpleNamespace(lib_controllers=found))
        monkeypatch.setattr(_blas, "ThreadpoolController", lambda: controller)
        monkeypatch.setattr(_blas.ctypes, "PyDLL", lambda path, handle: SimpleNamespace(_handle=handle))
        monkeypatch.setattr(_blas, "_found", None)

    return pretend


@pytest.mark.parametrize(("api", "layer"), [("openblas", "openmp"), ("mkl", "intel"), ("mkl", "sequential")])
def test_a_library_with_a_limit_for_each_thread_has_it_in_each_that_walks_and_only_there(
    libraries, api, layer
):
    library = Library(4, api, layer, threading.local())
    libraries(library)
    began, go = threading.Event(), threading.Event()

    def other():
        library.set_num_threads(3)
        with _blas.one_thread():
            seen.append(library.get_num_threads())
            began.set()
            assert go.wait(SECONDS)
        seen.append(library.get_num_threads())

    seen = []
    thread = threading.Thread(target=other)
    thread.start()
    assert began.wait(SECONDS)
    assert library.get_num_threads() == 4
    with _blas.one_thread():
        assert library.get_num_threads() == 1
        go.set()
        thread.join(SECONDS)
        assert library.get_num_threads() == 1
    assert library.get_num_threads() == 4
    assert seen == [1, 3]


def test_libraries_with_different_numbers_get_their_own_back(libraries):
    two, five = Library(2), Library(5, "blis")
    libraries(two, five)
    with _blas.one_thread():
        assert (two.get_num_threads(), five.get_num_threads()) == (1, 1)
        assert _blas.threads() == 5
    assert (two.get_num_threads(), five.get_num_threads()) == (2, 5)


def test_a_library_without_threads_says_nothing_of_how_many_are_wanted(libraries):
    libraries(Library(1, layer="disabled"))
    assert _blas.threads() is None
    with _blas.one_thread():
        pass


def test_an_interrupt_at_any_step_of_holding_gives_the_numbers_back():
    before = counts(), sys.getswitchinterval()
    with _blas.one_thread():  # the libraries are found
        pass
    for k in range(1, 500):
        left, reached = k, False

        def trace(frame, event, _):
            nonlocal left, reached
            if frame.f_code.co_filename != _blas.__file__:
                return None
            text = linecache.getline(_blas.__file__, frame.f_lineno).strip()
            # no interrupt comes where a `with` block ends, which is a line too
            left -= event == "line" and not text.startswith("with ")
            if not left and not reached:
                reached = True
                raise KeyboardInterrupt
            return trace

        outer = sys.gettrace()
        sys.settrace(trace)
        try:
            with _blas.one_thread(), _blas.block():
                pass
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(outer)
        assert (counts(), sys.getswitchinterval()) == before, f"after an interrupt in front of line {k}"
        assert not _blas._under_way._begun
        if not reached:
            break
    assert k > 20
    in_a_thread(_blas.threads)  # the lock is free


def test_no_block_begins_while_a_fork_waits_but_within_another(monkeypatch):
    """Else other threads could hold up a fork without end, and a fork a block that it waits for."""
    monkeypatch.setattr(_blas, "PATIENCE", SECONDS)
    forked, begun = [], []

    def fork():
        _blas._before_fork()
        forked.append(len(begun))
        _blas._in_parent()

    def begin():
        with _blas.block():
            begun.append(len(forked))

    threads = [threading.Thread(target=fork), threading.Thread(target=begin)]
    with _blas.block():
        threads[0].start()
        while not _blas._under_way._forking:
            time.sleep(0.001)
        threads[1].start()
        time.sleep(0.05)
        with _blas.block():
            assert not begun
        assert not forked
    for thread in threads:
        thread.join(SECONDS)
        assert not thread.is_alive()
    assert forked == [0]
    assert begun == [1]


# ---------------------------------------------------------------------------------------------------------
# other builds of BLAS, beside NumPy's and SciPy's own

#: Where they are looked for; any of them will do.
OTHERS = {
    "OpenBLAS on OpenMP": ["/usr/lib/*/openblas-openmp/libopenblas.so.0"],
    "MKL": [f"{sys.prefix}/lib/libmkl_rt.so*", "/opt/intel/oneapi/mkl/latest/lib/libmkl_rt.so*"],
    "BLIS": ["/usr/lib/*/blis-*/libblis.so.4"],
}

BESIDE = """
import ctypes, sys, threading
ctypes.CDLL(sys.argv[1])
from threadpoolctl import ThreadpoolController
from mvgauss import _blas, _blocks
libraries = ThreadpoolController().select(user_api="blas")
counts = lambda: tuple(l.get_num_threads() for l in libraries.lib_controllers)
name = sys.argv[1].split("/")[-1].split(".")[0]
assert any(name in l.filepath for l in libraries.lib_controllers), libraries.info()
before, one = counts(), (1,) * len(libraries.lib_controllers)
for limit in (None, 3):
    with libraries.limit(limits=limit):
        own, seen = counts(), set()
        _blocks.walk(lambda part: seen.add(counts()), range(8), n_jobs=3)
        assert seen == {one}, seen
        assert counts() == own
    assert counts() == before
thread = threading.Thread(target=_blocks.walk, args=(lambda part: seen.add(counts()), range(8)))
with _blas.one_thread():
    thread.start()
    thread.join()
    assert counts() == one
assert seen == {one}
assert counts() == before
"""


@pytest.mark.parametrize("name", list(OTHERS))
def test_another_build_of_blas_in_the_process_is_held_and_given_back_too(name):
    given = os.environ.get("MVGAUSS_OTHER_BLAS", "").split(os.pathsep)
    patterns = [*OTHERS[name], *(g for g in given if name.split()[0].lower() in g.lower())]
    found = [file for pattern in patterns if pattern for file in glob.glob(pattern)]
    if not found:
        pytest.skip(f"no {name} in {' or '.join(OTHERS[name])}, or in MVGAUSS_OTHER_BLAS (a list of files)")
    done = subprocess.run(
        [sys.executable, "-c", BESIDE, found[0]],
        cwd=Path(_blas.__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    if "cannot open shared object file" in done.stderr:
        pytest.skip(f"{found[0]} cannot be loaded: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
