"""Laws of processes: forks, ends of the interpreter, limits of the system; each in a process of its own."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import mvgauss

SECONDS = 120
FORKS = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")

BEGIN = """
import os, signal, sys, threading, time
import numpy as np
from threadpoolctl import ThreadpoolController
import mvgauss
from mvgauss import MultiVariateGaussian, _blas, _blocks, cov

_blocks.BLOCK_BYTES = 1 << 14
libraries = ThreadpoolController().select(user_api="blas").lib_controllers

def numbers():
    return [library.get_num_threads() for library in libraries], sys.getswitchinterval()

before = numbers()
x = np.random.default_rng(0).standard_normal((300, 40, 8))
"""


def run(*programs, seconds=SECONDS, **environment):
    """Run programs after `BEGIN` in a process of its own, which is killed with its children if it hangs."""
    process = subprocess.Popen(
        [sys.executable, "-c", "".join(map(textwrap.dedent, [BEGIN, *programs]))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(mvgauss.__file__).parents[1],
        env=os.environ | environment,
        start_new_session=True,
    )
    try:
        said, complained = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        _kill(process)
        said, complained = process.communicate()
        pytest.fail(f"hangs after it said {said!r} and {complained!r}")
    _kill(process)
    assert process.returncode == 0, complained
    return said, complained


def _kill(process):
    """Kill what is left of a process and its children."""
    try:
        os.killpg(process.pid, 9)
    except (AttributeError, ProcessLookupError):
        process.kill()


# ---------------------------------------------------------------------------------------------------------
# forks

#: How a parent forks while another thread works, and what becomes of the children.
STORM = """
def storm(count, work, child):
    over, ends = threading.Event(), {}

    def others():
        while not over.is_set():
            work()

    thread = threading.Thread(target=others)
    thread.start()
    try:
        for _ in range(count):
            time.sleep(0.002)
            number = os.fork()
            if number == 0:
                try:
                    os._exit(child() or 0)
                except BaseException:
                    os._exit(9)
            until = time.monotonic() + 20
            while time.monotonic() < until:
                found, status = os.waitpid(number, os.WNOHANG)
                if found:
                    end = os.waitstatus_to_exitcode(status)
                    break
                time.sleep(0.0005)
            else:
                os.kill(number, signal.SIGKILL)
                os.waitpid(number, 0)
                end = "hangs"
            ends[end] = ends.get(end, 0) + 1
    finally:
        over.set()
        thread.join()
    assert numbers() == before
    return ends
"""


@FORKS
@pytest.mark.slow
def test_no_child_of_a_fork_beside_walks_hangs_and_each_has_the_numbers_from_outside():
    said, _ = run(
        STORM,
        """
        want = cov(x)
        square = np.eye(300) + 1

        def child():
            if numbers() != before:
                return 1
            square @ square  # on BLAS's own threads
            if not np.array_equal(cov(x), want):
                return 2
            return 0 if numbers() == before else 3

        print(storm(300, lambda: cov(x), child))
        """,
        seconds=600,
        PYTHONWARNINGS="ignore",
    )
    assert said == "{0: 300}\n"


@FORKS
@pytest.mark.slow
def test_no_child_hangs_where_blocks_are_short_calls_of_lapack():
    """Each takes a lock of OpenBLAS's for a moment: without blocks that wait for a fork, 1 of 200 hangs."""
    said, _ = run(
        STORM,
        """
        small = np.eye(6)[None].repeat(3000, 0)

        def work():
            _blocks.walk(lambda _: np.linalg.cholesky(small), range(20), n_jobs=2)

        def child():
            np.linalg.cholesky(small)
            return 0 if numbers() == before else 1

        print(storm(300, work, child))
        """,
        seconds=600,
        PYTHONWARNINGS="ignore",
    )
    assert said == "{0: 300}\n"


@FORKS
def test_a_fork_waits_for_blocks_of_other_threads_and_they_wait_for_it():
    said, _ = run(
        STORM,
        """
        under_way = set()

        def task(part):
            under_way.add(part)
            time.sleep(0.002)
            under_way.discard(part)

        print(storm(10, lambda: _blocks.walk(task, range(10), n_jobs=3), lambda: len(under_way)))
        """,
        PYTHONWARNINGS="ignore",
    )
    assert said == "{0: 10}\n"


@FORKS
def test_a_fork_waits_for_no_block_without_end_and_for_none_of_its_own():
    """A task may fork, and other blocks may wait for what it makes of the child."""
    said, _ = run(
        """
        made, waited_for = threading.Event(), threading.Event()

        def task(part):
            if part:
                waited_for.set()
                assert made.wait(60)
                return
            assert made.is_set() or waited_for.wait(60)
            start = time.monotonic()
            number = os.fork()
            if number == 0:
                _blocks.walk(lambda part: None, range(4), n_jobs=2)
                os._exit(0 if numbers() == before else 1)
            print(os.waitpid(number, 0)[1])
            assert time.monotonic() - start < 30
            made.set()

        for n_jobs in (1, 3):
            waited_for.clear()
            made.clear() if n_jobs > 1 else made.set()
            _blas.PATIENCE = 0.5 if n_jobs > 1 else 600
            _blocks.walk(task, range(3), n_jobs=n_jobs)
        assert numbers() == before
        """,
        PYTHONWARNINGS="ignore",
    )
    assert said == "0\n0\n"


@FORKS
@pytest.mark.slow
def test_a_pool_of_forked_processes_works_beside_a_thread_that_fits():
    said, _ = run(
        """
        import multiprocessing

        def image(i):
            return float(cov(x + i)[0, 0, 0]), numbers()

        over = threading.Event()
        thread = threading.Thread(target=lambda: [cov(x) for _ in iter(over.is_set, True)])
        thread.start()
        try:
            with multiprocessing.get_context("fork").Pool(2) as pool:
                answers = pool.map_async(image, range(8)).get(60)
        finally:
            over.set()
            thread.join()
        assert all(n == before for _, n in answers), answers
        print(len(answers))
        """,
        PYTHONWARNINGS="ignore",
    )
    assert said == "8\n"


# ---------------------------------------------------------------------------------------------------------
# ends of the interpreter


def test_a_fit_works_at_the_end_of_the_interpreter():
    """In a thread that outlives the main thread, in a function at exit, and in a finaliser after these."""
    said, complained = run(
        """
        import atexit

        def answer(cov=cov, x=x, blocks=_blocks, print=print):
            blocks.BLOCK_BYTES = 1 << 14
            print(float(cov(x).sum()), flush=True)

        def late():
            threading.main_thread().join()
            answer()

        class Late:
            def __del__(self):
                self.answer()

        answer()
        threading.Thread(target=late).start()
        atexit.register(answer)
        last = Late()
        last.answer = answer
        last.me = last
        sys.modules["kept until the end"] = last
        """
    )
    answers = said.split()
    assert answers == answers[:1] * 4
    assert not complained


def test_a_thread_that_fits_without_end_is_left_behind_where_it_is_a_daemon():
    _, complained = run(
        """
        def fit():
            while True:
                cov(x)

        threading.Thread(target=fit, daemon=True).start()
        time.sleep(0.2)
        """
    )
    assert not complained


# ---------------------------------------------------------------------------------------------------------
# limits of the system


def test_without_threads_all_is_done_by_the_caller_with_the_same_answers():
    said, _ = run(
        """
        embedding = np.random.default_rng(0).standard_normal((30, 6, 20, 20))

        def answers():
            model = MultiVariateGaussian(n_jobs=3).fit(embedding)
            return [*model, model.mahalanobis(embedding), cov(x)]

        want = answers()

        def start(thread):
            raise RuntimeError("can't start new thread")

        threading.Thread.start = start
        for a, b in zip(answers(), want, strict=True):
            assert np.array_equal(a, b)
        assert threading.active_count() == 1
        assert numbers() == before
        print("done")
        """
    )
    assert said == "done\n"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_where_the_system_refuses_threads_all_is_done_by_the_caller():
    said, _ = run(
        """
        import resource
        want = cov(x)
        os.setgid(12345)
        os.setuid(12345)
        resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
        try:
            threading.Thread(target=print).start()
        except RuntimeError:
            assert np.array_equal(cov(x), want)
            print("refused")
        """
        if os.getuid() == 0
        else "print('refused')",
        OPENBLAS_NUM_THREADS="1",
    )
    assert said == "refused\n"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"])
def test_a_process_that_is_given_one_thread_takes_one(name):
    """As the workers of joblib and Dask are; who asks for more gets them."""
    run(
        """
        if max(before[0]) == 1:
            assert _blocks.cpu_count(None) == 1
            assert _blocks.cpu_count(3) == 3
        """,
        **{name: "1"},
    )


@pytest.mark.slow
def test_workers_of_joblib_take_one_thread_each():
    pytest.importorskip("joblib")
    said, _ = run(
        """
        import joblib

        def threads(_):
            from mvgauss import _blocks
            return _blocks.cpu_count(None)

        with joblib.parallel_config("loky", n_jobs=joblib.cpu_count(), inner_max_num_threads=1):
            print(set(joblib.Parallel()(joblib.delayed(threads)(i) for i in range(4))))
        joblib.externals.loky.get_reusable_executor().shutdown()
        """
    )
    assert said == "{1}\n"
