"""How a long stack is walked: every item once, in order, whatever the blocks and threads."""

import gc
import itertools
import math
import os
import sys
import threading
import time
import weakref
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
from common import blocks_of, frozen, needs_threads, seeds
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import ThreadpoolController, threadpool_limits

from mvgauss import MultiVariateGaussian, _blocks, _arguments, cov, mahalanobis, pinv

SECONDS = 60
BLAS = ThreadpoolController().select(user_api="blas")


def blas_threads():
    """Return how many threads each BLAS of this process may use."""
    return [library.get_num_threads() for library in BLAS.lib_controllers]


def parts(count):
    """Return slices of one item."""
    return [slice(i, i + 1) for i in range(count)]


class Bar:
    """What a walk needs of tqdm."""

    made: ClassVar[list["Bar"]] = []

    def __init__(self, total, desc, unit):
        self.total, self.desc, self.count, self.closed = total, desc, 0, False
        self.made.append(self)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.closed = True

    def update(self):
        self.count += 1


@pytest.fixture
def bars(monkeypatch):
    """The bars that a test makes."""
    monkeypatch.setitem(sys.modules, "tqdm", SimpleNamespace(auto=SimpleNamespace(tqdm=Bar)))
    monkeypatch.setitem(sys.modules, "tqdm.auto", SimpleNamespace(tqdm=Bar))
    monkeypatch.setattr(Bar, "made", [])
    return Bar.made


@given(st.integers(0, 500), st.integers(0, 1 << 24), st.integers(1, 64), st.sampled_from([1, 4096, 4 << 20]))
def test_slices_cover_a_range_once_and_in_order(length, item_bytes, least, size):
    with blocks_of(size):
        parts = _blocks.slices(length, item_bytes, least=least)
    assert [i for part in parts for i in range(part.start, part.stop)] == list(range(length))
    assert all(part.stop > part.start for part in parts)


@pytest.mark.parametrize(("item_bytes", "count"), [(1, 1), (64, 1), (128, 2), (640, 10), (1 << 30, 10)])
def test_slices_are_as_large_as_a_block(item_bytes, count):
    with blocks_of(640):
        assert len(_blocks.slices(10, item_bytes)) == count


@given(st.integers(1, 500), st.integers(1, 64), st.integers(1, 16))
def test_slices_can_be_shared_evenly_unless_they_were_half_as_large(length, size, shares):
    with blocks_of(size):
        whole, shared = (len(_blocks.slices(length, 1, shares=k)) for k in (1, shares))
    assert whole <= shared <= 2 * whole
    assert whole == 1 or shared % shares == 0 or shared in (2 * whole, length)
    assert whole > 1 or shared == 1
    assert shared < whole + shares


def test_slices_are_even():
    with blocks_of(40):
        sizes = {part.stop - part.start for part in _blocks.slices(101, 1)}
    assert sizes == {33, 34}


@pytest.mark.parametrize("n_jobs", [None, 1, 2, 5, -1])
def test_every_part_is_done_once_on_any_number_of_threads_and_in_order_on_one(n_jobs):
    begun, taken = [], threading.Lock()

    def task(part):
        with taken:
            begun.append(part.start)
        time.sleep(0.002 if part.start % 2 else 0)

    _blocks.walk(task, parts(25), n_jobs=n_jobs)
    assert sorted(begun) == list(range(25))
    assert n_jobs != 1 or begun == list(range(25))


def test_a_walk_of_nothing_does_nothing():
    _blocks.walk(pytest.fail, [])


@pytest.mark.parametrize("n_jobs", [1, 3])
def test_the_first_failure_stops_the_walk_and_comes_through(n_jobs):
    done = []

    def task(part):
        if part.start == 3:
            raise KeyboardInterrupt
        time.sleep(0.002)  # or all parts are done while the system lets the failing thread wait
        done.append(part.start)

    with pytest.raises(KeyboardInterrupt):
        _blocks.walk(task, parts(200), n_jobs=n_jobs)
    assert {0, 1, 2} <= set(done)
    assert len(done) < 100


@needs_threads
def test_of_several_failures_that_of_the_first_part_comes_through():
    later = threading.Event()

    def task(part):
        if part.start == 0:
            assert later.wait(20)
            raise ValueError("the first part")
        later.set()
        raise ValueError("another part")

    with pytest.raises(ValueError, match="the first part"):
        _blocks.walk(task, parts(9), n_jobs=2)


@needs_threads
def test_an_interrupt_comes_through_whatever_else_failed():
    caller, at_work, interrupted = threading.current_thread(), threading.Event(), threading.Event()

    def task(part):
        if threading.current_thread() is not caller:
            at_work.set()  # on an earlier part than the one that is interrupted
            assert interrupted.wait(20)
            raise ValueError
        assert at_work.wait(20)
        if part.start == 2:
            interrupted.set()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _blocks.walk(task, parts(3), n_jobs=2)


@needs_threads
def test_an_interrupt_while_threads_are_waited_for_comes_through_when_they_have_ended(monkeypatch):
    """The caller has nothing left to do; the part that has begun is waited for again."""
    join, joined, ended = threading.Thread.join, [], []

    def interrupted(thread, timeout=None):
        joined.append(thread)
        if len(joined) == 1:
            raise KeyboardInterrupt
        join(thread, timeout)

    caller, both = threading.current_thread(), threading.Barrier(2)

    def task(part):
        both.wait(SECONDS)  # neither takes both parts, however late the other is
        if threading.current_thread() is not caller:
            time.sleep(0.1)
            ended.append(part)

    monkeypatch.setattr(threading.Thread, "join", interrupted)
    with pytest.raises(KeyboardInterrupt):
        _blocks.walk(task, parts(2), n_jobs=2)
    assert len(ended) == 1
    assert not joined[0].is_alive()


def test_a_stop_iteration_of_a_task_comes_through_as_itself():
    for n_jobs in (1, 2):
        with pytest.raises(StopIteration):
            _blocks.walk(lambda _: next(iter(())), parts(4), n_jobs=n_jobs)


def test_a_bar_that_fails_stops_the_walk(bars, monkeypatch):
    def update(_):
        raise ZeroDivisionError

    done = []
    monkeypatch.setattr(Bar, "update", update)
    with pytest.raises(ZeroDivisionError):
        _blocks.walk(done.append, parts(50), n_jobs=2, progress="failing")
    assert len(done) <= 2


def test_a_failure_is_gone_when_it_was_handled():
    class Held:
        pass

    held = []

    def task(part):
        mine = Held()
        held.append(weakref.ref(mine))
        raise LookupError

    gc.disable()  # what is left in a circle would stay
    try:
        with pytest.raises(LookupError):
            _blocks.walk(task, parts(2), n_jobs=2)
        assert held
        assert all(reference() is None for reference in held)
    finally:
        gc.enable()


@needs_threads
@pytest.mark.parametrize("n_jobs", [1, 2, 3])
def test_who_asks_works_too_and_no_thread_stays(n_jobs):
    before, workers = threading.active_count(), set()
    all_of_them = threading.Barrier(n_jobs, timeout=SECONDS)

    def task(_):
        workers.add(threading.get_ident())
        all_of_them.wait()

    _blocks.walk(task, parts(2 * n_jobs), n_jobs=n_jobs)
    assert len(workers) == n_jobs
    assert threading.get_ident() in workers
    assert threading.active_count() == before


@pytest.mark.parametrize("started", [0, *(pytest.param(n, marks=needs_threads) for n in (1, 2))])
def test_where_threads_cannot_start_the_others_do_all_parts(rng, monkeypatch, started):
    x = frozen(rng.standard_normal((40, 50, 6)))
    with blocks_of(1 << 10):
        want = cov(x)
        start, count = threading.Thread.start, itertools.count()

        def refused(thread):
            if next(count) >= started:
                raise RuntimeError("can't start new thread")
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", refused)
        done = []
        _blocks.walk(done.append, parts(20), n_jobs=4)
        assert sorted(part.start for part in done) == list(range(20))
        assert next(count) == started + 1, "one attempt that fails is enough"
        np.testing.assert_array_equal(cov(x), want)


def test_tasks_see_the_settings_of_the_caller_and_keep_theirs_to_themselves():
    seen = []

    def task(_):
        seen.append(np.geterr()["divide"])
        np.seterr(under="raise")

    for n_jobs in (1, 2):
        with np.errstate(divide="raise", under="ignore"):
            _blocks.walk(task, parts(4), n_jobs=n_jobs)
            assert np.geterr()["under"] == "ignore"
    assert seen == ["raise"] * 8


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_walk_inside_a_walk_starts_no_threads(n_jobs):
    answers = []

    def outer(_):
        inner = set()
        _blocks.walk(lambda _: inner.add(threading.get_ident()), parts(4), n_jobs=4)
        answers.append(inner == {threading.get_ident()})

    _blocks.walk(outer, parts(4), n_jobs=n_jobs)
    assert answers == [True] * 4


@needs_threads
@pytest.mark.parametrize(("n_jobs", "count"), [(None, 3), (5, 3), (2, 2), (1, 1)])
def test_one_part_alone_leaves_its_threads_to_blas_and_to_a_walk_within(n_jobs, count):
    threads, blas = set(), []
    both = threading.Barrier(count, timeout=SECONDS)

    def inner(_):
        threads.add(threading.get_ident())
        both.wait()

    def outer(_):
        blas.append(blas_threads())
        _blocks.walk(inner, parts(2 * count), n_jobs=3)

    before = blas_threads()
    with threadpool_limits(3, user_api="blas"):
        limited = blas_threads()
        _blocks.walk(lambda _: _blocks.walk(outer, parts(1), n_jobs=n_jobs), parts(1))
    assert blas == [limited]
    assert blas_threads() == before
    assert len(threads) == count


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_bar_counts_every_block(rng, bars, n_jobs):
    with blocks_of(1):
        model = MultiVariateGaussian(progress=True, n_jobs=n_jobs).fit(rng.standard_normal((9, 2, 100)))
        model.mahalanobis(rng.standard_normal((1, 2, 100)))
    assert len(bars) == 2
    assert all(bar.closed and bar.count == bar.total > 1 for bar in bars)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_bar_is_closed_after_a_failure(bars, n_jobs):
    with pytest.raises(ZeroDivisionError):
        _blocks.walk(lambda part: 1 / part.start, [slice(0, 1)] * 5, n_jobs=n_jobs, progress="dividing")
    (bar,) = bars
    assert bar.closed
    assert (bar.desc, bar.total, bar.count) == ("dividing", 5, 0)


def test_without_tqdm_a_bar_is_refused_and_nothing_is_fitted(rng, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    model = MultiVariateGaussian(progress=True)
    with pytest.raises(ImportError, match=r"progress=True: expected the package tqdm.*mvgauss\[progress\]"):
        model.fit(rng.standard_normal((9, 2, 100)))
    assert not model.__sklearn_is_fitted__()


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_blas_has_one_thread_for_several_parts_and_then_its_own_again(fails, n_jobs):
    def task(part):
        seen.extend(blas_threads())
        if fails and part.start == 2:
            raise OSError

    seen, before = [], blas_threads()
    try:
        _blocks.walk(task, parts(3), n_jobs=n_jobs)
    except OSError:
        assert fails
    assert set(seen) == {1}
    assert blas_threads() == before


def test_a_limit_that_the_caller_owns_changes_no_bit(rng):
    x = rng.standard_normal((40, 250, 4, 3))
    want = MultiVariateGaussian(n_jobs=1).fit(x).inv_covariance
    with threadpool_limits(2, user_api="blas"):
        for n_jobs in (1, 2, 2, 2):
            assert (MultiVariateGaussian(n_jobs=n_jobs).fit(x).inv_covariance == want).all()


@pytest.mark.parametrize(("n_jobs", "count"), [(1, 1), (7, 7), (-10000, 1)])
def test_jobs_are_counted_as_joblib_counts_them(n_jobs, count):
    assert _blocks.cpu_count(n_jobs) == count


def test_minus_one_job_is_all_processors():
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert _blocks.cpu_count(-1) == cpus
    assert _blocks.cpu_count(-2) == max(1, cpus - 1)


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine of 64 CPUs, its control groups in a folder, and BLAS without a limit."""
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    monkeypatch.setattr(_blocks._blas, "threads", lambda: None)
    monkeypatch.setattr(_blocks, "_CGROUPS", tmp_path)
    monkeypatch.setattr(_blocks, "_MEMBERSHIP", tmp_path / "membership")
    for name in ("PYTHON_CPU_COUNT", "LOKY_MAX_CPU_COUNT"):
        monkeypatch.delenv(name, raising=False)

    def write(files):
        _blocks._quota.cache_clear()
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)

    write({})
    yield write
    _blocks._quota.cache_clear()


V2, V1 = "0::/\n", "3:cpuset:/\n2:cpu,cpuacct:/a/b\n1:memory:/m\n0::/\n"


@pytest.mark.parametrize(
    ("files", "count"),
    [
        ({}, 64),
        ({"membership": V2}, 64),
        ({"membership": V2, "cpu.max": "max 100000\n"}, 64),
        ({"membership": V2, "cpu.max": "50000 100000\n"}, 1),
        ({"membership": V2, "cpu.max": "150000 100000\n"}, 2),
        ({"membership": V2, "cpu.max": "nonsense\n"}, 64),
        ({"membership": V2, "cpu.max": ""}, 64),
        ({"membership": "0::/a/b\n", "a/cpu.max": "300000 100000", "a/b/cpu.max": "max 100000"}, 3),
        ({"membership": "0::/a/b\n", "a/cpu.max": "300000 100000", "a/b/cpu.max": "20000 10000"}, 2),
        ({"membership": "0::/host/x\n", "cpu.max": "400000 100000"}, 4),  # in a container
        ({"membership": V1}, 64),
        ({"membership": V1, "cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 64),
        ({"membership": V1, "cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
        ({"membership": V1, "cpu/a/cpu.cfs_quota_us": "250000", "cpu/a/cpu.cfs_period_us": "100000"}, 3),
        ({"membership": V1, "cpu/m/cpu.cfs_quota_us": "100000", "cpu/m/cpu.cfs_period_us": "100000"}, 64),
    ],
)
def test_a_quota_of_control_groups_bounds_the_threads(machine, files, count):
    machine(files)
    assert _blocks.cpu_count(None) == _blocks.cpu_count(-1) == count


@pytest.mark.parametrize(
    ("variables", "count"),
    [
        ({"PYTHON_CPU_COUNT": "3"}, 3),
        ({"LOKY_MAX_CPU_COUNT": "5"}, 5),
        ({"PYTHON_CPU_COUNT": "default", "LOKY_MAX_CPU_COUNT": ""}, 64),
        ({"PYTHON_CPU_COUNT": "4", "LOKY_MAX_CPU_COUNT": "2"}, 2),
        ({"LOKY_MAX_CPU_COUNT": "100"}, 64),
        ({"LOKY_MAX_CPU_COUNT": "0"}, 1),
    ],
)
def test_the_variables_that_joblib_and_python_know_bound_the_threads(machine, monkeypatch, variables, count):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert _blocks.cpu_count(None) == _blocks.cpu_count(-1) == count


def test_processors_are_counted_as_joblib_counts_them(monkeypatch):
    joblib = pytest.importorskip("joblib")
    for value in (None, "1", "2", "1000"):
        if value:
            monkeypatch.setenv("LOKY_MAX_CPU_COUNT", value)
        assert _blocks.cpu_count(-1) == joblib.cpu_count()


def test_a_limit_of_blas_that_is_set_already_bounds_the_threads_that_nobody_asked_for(machine, monkeypatch):
    """As in the workers of joblib and of Dask."""
    monkeypatch.setattr(_blocks._blas, "threads", lambda: 1)
    assert _blocks.cpu_count(None) == 1
    assert _blocks.cpu_count(-1) == 64
    assert _blocks.cpu_count(3) == 3


@pytest.mark.parametrize(("n_jobs", "got"), [(0, "0"), (1.5, "1.5"), ("all", "'all'"), (True, "True")])
def test_a_bad_number_of_jobs_is_refused(n_jobs, got):
    with pytest.raises((ValueError, TypeError), match=f"n_jobs: expected .*, got {got}"):
        _blocks.cpu_count(n_jobs)


@st.composite
def operands(draw):
    """Draw an array of any strides, the number of its core axes, and a stack that it broadcasts to."""
    shape = draw(st.lists(st.integers(1, 4), max_size=4))
    x = frozen(np.random.default_rng(draw(seeds)).standard_normal(shape))
    x = x.transpose(draw(st.permutations(range(x.ndim))))
    x = x[tuple(slice(None, None, draw(st.sampled_from([1, -1, 2]))) for _ in shape)]
    core = draw(st.integers(0, x.ndim))
    own = x.shape[: x.ndim - core]
    stack = [draw(st.integers(1, 3)) if n == 1 else n for n in own]
    return x, core, (*draw(st.lists(st.integers(1, 3), max_size=2)), *stack)


@given(operands())
def test_blocks_of_an_operand_are_those_of_it_broadcast_and_flattened(operand):
    x, core, stack = operand
    rest = x.shape[x.ndim - core :]
    want = np.broadcast_to(x, (*stack, *rest)).reshape(math.prod(stack), *rest)
    flat = _blocks.flat(x, core, stack)
    for start in range(0, len(want), 2):
        part = slice(start, min(start + 2, len(want)))
        np.testing.assert_array_equal(flat[part], want[part])


def test_blocks_of_an_operand_are_views_wherever_they_can_be(rng):
    x = frozen(rng.standard_normal((4, 5, 2, 3)))
    for a, stack in [
        (x, (4, 5)),
        (x[0], (5,)),
        (x[:, :1], (4, 1)),
        (x[0, 0], (4, 5)),
        (x[0, 0], ()),
        (x[:, :, ::-1], (4, 5)),
    ]:
        block = _blocks.flat(a, 2, stack)[slice(0, 1)]
        assert np.may_share_memory(block, x)
        assert not block.flags.writeable


def test_what_is_written_to_a_flat_output_is_written_where_it_belongs(rng):
    for shape, axes in [((5, 4, 3), 2), ((5, 4, 3), 1), ((5, 1, 4), 3), ((3,), 0), ((6, 0), 1)]:
        out, values = np.full(shape, np.nan), rng.standard_normal((math.prod(shape[:axes]), *shape[axes:]))
        flat = _blocks.flat_output(out, axes)
        for i in range(len(values)):
            flat[slice(i, i + 1)] = values[i : i + 1]
        np.testing.assert_array_equal(out, values.reshape(shape))


@given(st.lists(st.integers(0, 4), max_size=3), st.sampled_from([1, 8, 4 << 20]), st.sampled_from([1, 3]))
def test_a_stack_is_walked_item_by_item_once(stack, size, n_jobs):
    counts = np.zeros(math.prod(stack), int)

    def task(part):
        counts[part] += 1

    with blocks_of(size):
        _blocks.walk_stack(task, tuple(stack), item_bytes=3, n_jobs=n_jobs)
    assert (counts == 1).all()


@given(st.sets(st.integers(0, 23), min_size=1), st.integers(1, 30), st.sampled_from([1, 3]), st.data())
def test_of_bad_items_the_first_is_refused_with_its_index(bad, size, n_jobs, data):
    """A task looks for one kind of fault after the other, so what it finds first may not be the first."""
    kind = {item: data.draw(st.sampled_from("ab")) for item in bad}

    def task(part):
        for fault in "ab":
            for item in range(part.start, part.stop):
                if kind.get(item) == fault:
                    raise _arguments.BadItem(item - part.start, "x", "none that is bad", fault)

    first = min(bad)
    index = tuple(int(i) for i in np.unravel_index(first, (4, 6)))
    with blocks_of(size), pytest.raises(ValueError, match="x: expected") as caught:
        _blocks.walk_stack(task, (4, 6), item_bytes=1, n_jobs=n_jobs)
    assert (
        str(caught.value) == f"x: expected none that is bad, got {kind[first]} at index {index} of the stack"
    )


@pytest.mark.parametrize("length", [1, 7])
def test_many_threads_give_the_bits_of_one(rng, length, monkeypatch):
    x = frozen(rng.standard_normal((length, 60, 9)))

    def answers():
        s = cov(x)
        model = MultiVariateGaussian().fit(x.swapaxes(0, 1).swapaxes(1, 2))
        return s, pinv(s), mahalanobis(x, x.mean(axis=1), pinv(s)), *model

    with blocks_of(1 << 12):
        want = answers()
        monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2, 3, 4}, raising=False)
        for a, b in zip(answers(), want, strict=True):
            np.testing.assert_array_equal(a, b)


@needs_threads
def test_models_may_be_used_from_many_threads(rng):
    model = MultiVariateGaussian().fit(frozen(rng.standard_normal((20, 6, 9, 9))))
    test, answers = frozen(rng.standard_normal((4, 6, 9, 9))), []
    with blocks_of(1 << 12):
        users = [threading.Thread(target=lambda: answers.append(model.mahalanobis(test))) for _ in range(6)]
        for user in users:
            user.start()
        for user in users:
            user.join()
    assert len(answers) == 6
    for d in answers[1:]:
        np.testing.assert_array_equal(d, answers[0])
