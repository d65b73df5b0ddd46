"""BLAS's threads and the switch interval: low while anybody walks, exactly as before after it; CPUs."""

import contextlib
import glob
import itertools
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from threadpoolctl import ThreadpoolController, threadpool_limits

import mvgauss
from mvgauss._runtime import blocks, threads

SECONDS = 60
LIBRARIES = ThreadpoolController().select(user_api="blas").lib_controllers
ONE = [1] * len(LIBRARIES)


def counts():
    """Return how many threads each BLAS of this process may use."""
    return [library.num_threads for library in LIBRARIES]


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


# ---- both numbers


@pytest.mark.parametrize("fails", [False, True])
def test_both_numbers_are_low_as_long_as_they_are_held_and_then_as_before(fails):
    before = counts(), sys.getswitchinterval()
    assert before[1] > 1e-4
    with contextlib.suppress(KeyError), threads.held(), threads.held():
        assert counts() == ONE
        assert sys.getswitchinterval() <= 1e-4
        if fails:
            raise KeyError
    assert (counts(), sys.getswitchinterval()) == before


@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize(("parts", "blas_is_low"), [(1, False), (3, True)])
def test_several_parts_hold_both_numbers_and_one_part_the_interval(n_jobs, parts, blas_is_low):
    with threadpool_limits(3, user_api="blas"):
        before = counts(), sys.getswitchinterval()
        seen = blocks.run(lambda _: (counts(), sys.getswitchinterval() <= 1e-4), range(parts), n_jobs=n_jobs)
        assert (counts(), sys.getswitchinterval()) == before
        assert seen == [(ONE if blas_is_low else before[0], True)] * parts


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_overlapping_holders_that_end_in_any_order_share_both_numbers(order):
    """The thread that came first and the one that leaves last may be different ones, alive or not."""
    before = counts(), sys.getswitchinterval()
    steps = [[threading.Event() for _ in range(4)] for _ in range(3)]

    def holder(began, go, ended, over):
        with threads.held():
            began.set()
            assert go.wait(SECONDS)
        ended.set()
        assert over.wait(SECONDS)

    holders = [threading.Thread(target=holder, args=own) for own in steps]
    for thread, (began, *_) in zip(holders, steps, strict=True):
        thread.start()
        assert began.wait(SECONDS)
    for k in order:
        assert counts() == ONE
        assert sys.getswitchinterval() <= 1e-4
        steps[k][1].set()
        assert steps[k][2].wait(SECONDS)
    assert (counts(), sys.getswitchinterval()) == before
    with threadpool_limits(3, user_api="blas"):
        assert counts() == [3] * len(ONE), "limits of other threads have their effect again"
    for thread, (*_, over) in zip(holders, steps, strict=True):
        over.set()
        thread.join(SECONDS)


@pytest.mark.parametrize("microseconds", [1, 20, 100, 101, 999, 5000, 123_456, 10_000_000])
def test_every_switch_interval_comes_back_exactly_and_is_never_made_longer(microseconds):
    before = sys.getswitchinterval()
    try:
        sys.setswitchinterval((microseconds + 0.5) * 1e-6)
        own = sys.getswitchinterval()
        with threads.held():
            assert sys.getswitchinterval() <= min(own, 1e-4)
        assert sys.getswitchinterval() == own
    finally:
        sys.setswitchinterval(before + 5e-7)


def test_a_limit_of_another_thread_is_as_it_was_after_a_walk():
    """Where threadpoolctl lets one thread at a time set limits, that limit holds in the walk too."""
    before = counts()
    with threadpool_limits(3, user_api="blas"):
        in_a_thread(lambda: blocks.run(abs, range(3), n_jobs=2))
        assert counts() == [3] * len(ONE)
    assert counts() == before


def test_what_somebody_sets_within_a_walk_stays():
    interval = sys.getswitchinterval()
    with threadpool_limits(2, user_api="blas"):
        before, limit = counts(), threadpool_limits(3, user_api="blas")
        try:
            with threads.held(), threads.held():
                limit.restore_original_limits()
                sys.setswitchinterval(0.25)
            assert (counts(), sys.getswitchinterval()) == (before, 0.25)
        finally:
            sys.setswitchinterval(interval)


def test_a_blas_that_is_loaded_within_a_walk_is_held_from_the_next_one_on():
    code = """if True:
        import sys, threadpoolctl
        import numpy
        from mvgauss._runtime import threads
        numbers = lambda: {a["filepath"]: a["num_threads"] for a in threadpoolctl.threadpool_info()}
        with threads.held():
            first = numbers()
            import scipy.linalg
            before = numbers()
            with threads.held():
                assert set(numbers().values()) == {1}, numbers()
        after = numbers()
        assert all(after[path] == number for path, number in before.items() if path not in first)
        with threadpoolctl.threadpool_limits(None):
            pass
    """
    in_a_process(code)


def in_a_process(code, *arguments, **environment):
    """Run a program in a process of its own, and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=Path(mvgauss.__file__).parents[1],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# ---- other libraries


class Library:
    """What a BLAS library looks like from threadpoolctl."""

    def __init__(self, number, internal_api="openblas", layer="pthreads", numbers=None):
        self.internal_api, self.threading_layer, self.filepath = internal_api, layer, str(id(self))
        self.numbers = numbers or SimpleNamespace()
        self.first = number

    def get_num_threads(self):
        return getattr(self.numbers, "own", self.first)

    def set_num_threads(self, number):
        self.numbers.own = number


@pytest.fixture
def libraries(monkeypatch):
    """Pretend that these are the BLAS libraries of the process."""

    class Controller:
        lib_controllers = ()

        def select(self, **_):
            return self

        def limit(self, **_):
            return contextlib.nullcontext()

    def pretend(*found):
        Controller.lib_controllers = found
        threads._libraries.cache_clear()

    monkeypatch.setattr(threads, "ThreadpoolController", Controller)
    yield pretend
    threads._libraries.cache_clear()


@pytest.mark.parametrize(("api", "layer"), [("openblas", "openmp"), ("mkl", "intel"), ("mkl", "sequential")])
def test_a_library_with_a_limit_for_each_thread_has_it_in_each_that_works_and_only_there(
    libraries, api, layer
):
    library = Library(4, api, layer, threading.local())
    libraries(library)
    both = threading.Barrier(2)

    def task(_):
        both.wait(SECONDS)
        return library.get_num_threads()

    def other():
        library.set_num_threads(3)
        seen.extend(blocks.run(task, range(2), n_jobs=2))
        seen.append(library.get_num_threads())

    seen = []
    with threads.held():
        assert library.get_num_threads() == 1
        in_a_thread(other)
        assert library.get_num_threads() == 1
    assert library.get_num_threads() == 4
    assert seen == [1, 1, 3]


def test_libraries_with_different_numbers_get_their_own_back(libraries):
    two, five = Library(2), Library(5, "blis")
    libraries(two, five)
    with threads.held():
        assert (two.get_num_threads(), five.get_num_threads()) == (1, 1)
        assert threads.blas_threads() == 5
    assert (two.get_num_threads(), five.get_num_threads()) == (2, 5)


def test_a_library_without_threads_says_nothing_of_how_many_are_wanted(libraries):
    libraries(Library(1, layer="disabled"))
    assert threads.blas_threads() is None
    assert threads.cpu_count(None) == threads.cpu_count(-1)
    with threads.held():
        pass


BESIDE = """if True:
    import ctypes, sys, threading
    ctypes.CDLL(sys.argv[1])
    from threadpoolctl import ThreadpoolController
    from mvgauss._runtime import blocks
    libraries = ThreadpoolController().select(user_api="blas")
    counts = lambda: tuple(library.num_threads for library in libraries.lib_controllers)
    before = counts()
    for limit in (None, 3):
        with libraries.limit(limits=limit):
            own = counts()
            assert set(blocks.run(lambda part: counts(), range(8), n_jobs=3)) == {(1,) * len(before)}
            assert counts() == own
        assert counts() == before
"""


#: Where other builds of BLAS are looked for, beside the list of files in MVGAUSS_OTHER_BLAS.
OTHERS = {
    "openblas": ["/usr/lib/*/openblas-openmp/libopenblas.so.0"],
    "mkl": [f"{sys.prefix}/lib/libmkl_rt.so*", "/opt/intel/oneapi/mkl/latest/lib/libmkl_rt.so*"],
    "blis": ["/usr/lib/*/blis-*/libblis.so.4"],
}


@pytest.mark.parametrize("name", list(OTHERS))
def test_another_build_of_blas_in_the_process_is_held_and_given_back_too(name):
    given = [f for f in os.environ.get("MVGAUSS_OTHER_BLAS", "").split(os.pathsep) if name in f.lower()]
    found = [file for pattern in [*OTHERS[name], *given] for file in glob.glob(pattern)]
    if not found:
        pytest.skip(f"no other build of {name} was found; MVGAUSS_OTHER_BLAS is a list of more files to try")
    in_a_process(BESIDE, found[0])


# ---- numbers of threads


def test_the_threads_that_blas_may_run_are_those_outside_of_walks():
    outside = max(counts())
    assert threads.blas_threads() == outside
    with threads.held():
        assert threads.blas_threads() == outside
    with threadpool_limits(1, user_api="blas"):
        assert threads.blas_threads() == 1
        assert threads.cpu_count(None) == 1
        assert threads.cpu_count(3) == 3


@pytest.mark.parametrize(("n_jobs", "count"), [(1, 1), (7, 7), (-10000, 1)])
def test_jobs_are_counted_as_joblib_counts_them(n_jobs, count):
    assert threads.cpu_count(n_jobs) == count


def test_processors_are_counted_as_joblib_counts_them(monkeypatch):
    joblib = pytest.importorskip("joblib")
    for value in (None, "1", "2", "1000", "0", "-3"):
        if value:
            monkeypatch.setenv("LOKY_MAX_CPU_COUNT", value)
        assert threads.cpu_count(-1) == joblib.cpu_count()
        assert threads.cpu_count(-2) == max(1, joblib.cpu_count() - 1)


@pytest.mark.parametrize(("n_jobs", "got"), [(0, "0"), (1.5, "1.5"), ("all", "'all'"), (True, "True")])
def test_a_bad_number_of_jobs_is_refused(n_jobs, got):
    with pytest.raises((ValueError, TypeError), match=f"n_jobs: expected .*, got {got}"):
        threads.cpu_count(n_jobs)


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine of 64 CPUs, its control groups in a folder, and BLAS without a limit."""
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    monkeypatch.setattr(threads, "blas_threads", lambda: None)
    monkeypatch.setattr(threads, "_CGROUPS", tmp_path)
    for name in ("PYTHON_CPU_COUNT", "LOKY_MAX_CPU_COUNT"):
        monkeypatch.delenv(name, raising=False)

    def write(files):
        threads._quota.cache_clear()
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())

    write({})
    yield write
    threads._quota.cache_clear()


QUOTA, PERIOD = "cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"


@pytest.mark.parametrize(
    ("files", "count"),
    [
        ({}, 64),
        ({"cpu.max": "max 100000\n"}, 64),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "9900000 100000\n"}, 64),
        ({QUOTA: "-1\n", PERIOD: "100000\n"}, 64),
        ({QUOTA: "50000\n", PERIOD: "100000\n"}, 1),
        ({QUOTA: "250000", PERIOD: "100000"}, 3),
        ({QUOTA: "250000"}, 64),
        # odd ones
        *(({"cpu.max": text}, 64) for text in ("", "nonsense", "1", "1 2 3", b"\xff 1")),
        *(({"cpu.max": text}, 64) for text in ("100000 0", "0 100000", "5 -1", "9" * 5000 + " 1")),
    ],
)
def test_a_quota_of_control_groups_bounds_the_threads_whatever_is_in_its_files(machine, files, count):
    machine(files)
    assert threads.cpu_count(None) == threads.cpu_count(-1) == count


@pytest.mark.parametrize(
    ("variables", "count"),
    [
        ({"PYTHON_CPU_COUNT": "3"}, 3),
        ({"LOKY_MAX_CPU_COUNT": "5"}, 5),
        ({"PYTHON_CPU_COUNT": "default", "LOKY_MAX_CPU_COUNT": ""}, 64),
        ({"PYTHON_CPU_COUNT": "4", "LOKY_MAX_CPU_COUNT": "2"}, 2),
        ({"LOKY_MAX_CPU_COUNT": "100"}, 64),
        *(({"PYTHON_CPU_COUNT": value}, 1) for value in ("0", "-3")),
        *(({"PYTHON_CPU_COUNT": value}, 64) for value in ("²", "1.5", "9" * 4000, "9" * 5000)),
    ],
)
def test_the_variables_that_joblib_and_python_know_bound_the_threads(machine, monkeypatch, variables, count):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert threads.cpu_count(None) == threads.cpu_count(-1) == count


@pytest.mark.parametrize("error", [OSError, AttributeError])
def test_a_system_without_affinity_is_counted_too(machine, monkeypatch, error):
    def fails(_):
        raise error

    monkeypatch.setattr(os, "sched_getaffinity", fails, raising=False)
    assert threads.cpu_count(-1) == 64
