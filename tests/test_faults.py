"""All or nothing: a fault at any step leaves the model, the file and the engine as they were before.

A step is a line of the package. A tracer raises in front of the k-th line that a call executes, for
every k. (Not where a ``with`` block ends without an error: the interpreter delivers no interrupt
between the end of the block and `__exit__`.) A call commits with one store, or one rename: a fault at
one of the few lines after it finds the call done, and done whole.
"""

import contextlib
import dis
import errno
import functools
import io
import itertools
import json
import os
import sys
import tracemalloc
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from common import blocks_of, frozen
from threadpoolctl import ThreadpoolController

from mvgauss import MultiVariateGaussian, _blas, _state

PACKAGE = str(Path(_blas.__file__).parent)
BLAS = ThreadpoolController().select(user_api="blas")
ERRORS = [MemoryError, KeyboardInterrupt]


# ---------------------------------------------------------------------------------------------------------
# the tracer


@functools.cache
def ends_a_with(code, offset):
    """Return whether the line at an offset does nothing but leave a ``with`` block."""
    after = [i for i in dis.get_instructions(code) if i.offset >= offset and i.opname not in ("SWAP", "NOP")]
    return [i.argval for i in after[:3] if i.opname == "LOAD_CONST"] == [None] * 3


class Tracer:
    """Counts the lines of the package that are executed, and raises in front of the one that is asked for."""

    def __init__(self, fails, error):
        self.fails, self.error, self.count, self.where = fails, error, 0, None

    def __call__(self, frame, event, _):
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        if event == "line" and not ends_a_with(frame.f_code, frame.f_lasti):
            self.count += 1
            if self.count == self.fails:
                self.where = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
                raise self.error
        return self

    def __enter__(self):
        self.outer = sys.gettrace()
        sys.settrace(self)
        return self

    def __exit__(self, *_):
        sys.settrace(self.outer)


def every_step(call, error, step=1):
    """Yield (k, where, done) after `call` with a fault in front of its k-th line, until none is left."""
    for k in itertools.count(1, step):
        done = True
        with Tracer(k, error) as tracer:
            try:
                call()
            except (error, TypeError, ValueError):  # the checks and the reader raise errors of their own
                done = False
        yield k, tracer.where, done
        if tracer.where is None:
            assert k > 20, "no step was found"
            return


def engine():
    """Return what the engine keeps beside models: BLAS's threads, the switch interval, and who holds them."""
    threads = [library.get_num_threads() for library in BLAS.lib_controllers]
    return threads, sys.getswitchinterval(), len(_blas._interval._holders), len(_blas._under_way._begun)


def mend():
    """Give the engine back what a fault took, so that one failure is one failure."""
    _blas._under_way._begun.clear()
    for setting in (_blas._interval, *_blas._blas_settings()):
        setting.forget_holders()


@pytest.fixture(autouse=True)
def engine_is_mended():
    yield
    mend()


def bits(model):
    """Return everything that a model keeps, as a number that can be compared: factors aside."""
    if not model.__sklearn_is_fitted__():
        return None
    values, arrays = _state.pack(replace(model._fitted, factor=None))
    return repr(values), {k: a.tobytes() for k, a in arrays.items()}, model.get_params()


# ---------------------------------------------------------------------------------------------------------
# the model

N, C, P = 5, 2, 3


@pytest.fixture
def x(rng):
    return frozen(rng.standard_normal((N, C, P)))


def embedding_of(name):
    """Return what a call is made with: samples of so few features that there is a triangle, or rows."""
    return frozen(np.random.default_rng(2).standard_normal((N, 9 if "rows" in name else C, P)))


class OnDisk:
    """An array that is read part by part."""

    def __init__(self, array):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype

    def __getitem__(self, key):
        return self.array[key]


#: What is called on a fitted model, by name; most have the options of the constructor beside them.
CALLS = {
    "fit": (lambda m, x: m.fit(x + 1), {}),
    "fit weighted": (lambda m, x: m.fit(x + 1, sample_weight=np.arange(1.0, N + 1)), {}),
    "fit singular": (lambda m, x: m.fit(x[:2] + 1), {"reg_covar": 0}),
    "fit ledoit_wolf": (lambda m, x: m.fit(x + 1), {"shrinkage": "ledoit_wolf"}),
    "fit from disk": (lambda m, x: m.fit(OnDisk(x + 1)), {}),
    "partial_fit": (lambda m, x: m.partial_fit(x + 1), {}),
    "partial_fit ledoit_wolf": (lambda m, x: m.partial_fit(x + 1), {"shrinkage": "ledoit_wolf"}),
    "partial_fit from disk": (lambda m, x: m.partial_fit(OnDisk(x + 1)), {}),
    "merge": (lambda m, x: m.merge(OTHERS["none"]), {}),
    "merge oas": (lambda m, x: m.merge(OTHERS["oas"]), {"shrinkage": "oas"}),
    "calibrate": (lambda m, x: m.calibrate(x), {}),
    "threshold": (lambda m, x: m.threshold(x, 0.5, source="training"), {}),
    "mahalanobis": (lambda m, x: m.mahalanobis(x), {}),
    "leave_one_out": (lambda m, x: m.leave_one_out(x), {"shrinkage": 0.5}),
    "inv_covariance": (lambda m, x: m.inv_covariance, {}),
    "fit rows": (lambda m, x: m.fit(x + 1), {}),
    "merge rows": (lambda m, x: m.merge(OTHERS["rows"]), {"shrinkage": "ledoit_wolf"}),
    "calibrate rows": (lambda m, x: m.calibrate(x), {"reg_covar": 0}),
    "mahalanobis rows": (lambda m, x: m.mahalanobis(x), {}),
}
OTHERS = {
    name: MultiVariateGaussian(shrinkage=shrinkage, n_jobs=1).fit(1 + embedding_of(name))
    for name, shrinkage in (("none", None), ("oas", "oas"), ("rows", "ledoit_wolf"))
}


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(MultiVariateGaussian, "read_bytes", 2 * C * P * 8)


@pytest.mark.slow
@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("name", list(CALLS))
def test_a_fault_at_any_step_of_a_call_leaves_the_model_as_it_was(name, error, small_parts):
    (call, options), x = CALLS[name], embedding_of(name)
    fresh = MultiVariateGaussian(**options, n_jobs=1).partial_fit(x)
    before, others = bits(fresh), {k: bits(m) for k, m in OTHERS.items()}
    call(fresh, x)
    after = bits(fresh)
    model, late, wrong = MultiVariateGaussian(**options, n_jobs=1).partial_fit(x), set(), []
    start = model._fitted

    def again():
        model._fitted = start  # the same samples, their factors not made
        object.__setattr__(start, "factor", None)
        call(model, x)

    for _, where, done in every_step(again, error):
        found = bits(model)
        if not done and found == after != before:
            late.add(where)  # the store was made: what is left to do is to return
        elif found != (after if done else before):
            wrong.append(where)
    assert not wrong, f"a fault in front of these lines leaves something else: {wrong}"
    # the same line may be met twice: a thread that had to wait takes a line more
    assert len({where for where in late if not where.startswith("_blas.py")}) <= 1
    assert {k: bits(m) for k, m in OTHERS.items()} == others
    # and nothing waits for ever, nothing is half made
    again()
    assert bits(model) == after
    want = MultiVariateGaussian(**options, n_jobs=1).partial_fit(x)
    call(want, x)
    np.testing.assert_array_equal(model.mahalanobis(x), want.mahalanobis(x))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fit", "partial_fit", "merge", "mahalanobis", "fit from disk"])
def test_a_fault_at_any_step_leaves_the_engine_as_it_was(name, small_parts):
    """BLAS has its threads back."""
    (call, options), x = CALLS[name], embedding_of(name)
    before, wrong = engine(), set()
    model = MultiVariateGaussian(**options, n_jobs=1).partial_fit(x)
    start = model._fitted

    def again():
        model._fitted = start
        object.__setattr__(start, "factor", None)
        call(model, x)

    for _, where, _ in every_step(again, KeyboardInterrupt):
        if engine() != before:
            wrong.add(where)
            mend()
    assert not wrong, f"a fault in front of these lines leaves the engine otherwise: {wrong}"


@pytest.mark.slow
@pytest.mark.parametrize("error", ERRORS)
def test_a_first_fit_that_fails_leaves_an_unfitted_model(x, error):
    for method in ("fit", "partial_fit"):
        model, late = MultiVariateGaussian(n_jobs=1), set()
        call = functools.partial(getattr(model, method), x)
        for _, where, done in every_step(call, error):
            if not done and model.__sklearn_is_fitted__() and not where.startswith("_blas.py"):
                late.add(where)
            assert model.__sklearn_is_fitted__() or not done
            model._fitted = None
        assert len(late) <= 1


@pytest.mark.parametrize("jobs", [1, 3])
@pytest.mark.parametrize("error", [pytest.param(MemoryError, marks=pytest.mark.slow), KeyboardInterrupt])
@pytest.mark.parametrize(
    "room", ["_sums.centred", "_whitening.whiten", "_triangular.pack", "_shrinkage.estimate"]
)
def test_an_exception_in_a_worker_comes_through_and_leaves_the_model_as_it_was(
    rng, monkeypatch, jobs, error, room
):
    x = frozen(rng.standard_normal((4, 3, 60)))
    model = MultiVariateGaussian(n_jobs=jobs).fit(x)
    other = MultiVariateGaussian(n_jobs=1).fit(x + 1)
    before, start, threads = bits(model), model._fitted, engine()
    works = sys.modules[f"mvgauss.{room.split('.')[0]}"]
    name = room.split(".")[1]
    right, tried = getattr(works, name), 0

    def failing(k):
        calls = itertools.count()

        def fails(*args, **kwargs):
            if next(calls) == k:
                raise error("in a worker")
            return right(*args, **kwargs)

        return fails

    with blocks_of(1):
        for k, call in itertools.product(
            (0, 5, 13),
            (
                lambda: model.fit(x + 1),
                lambda: model.partial_fit(x + 1),
                lambda: model.merge(other),
                lambda: MultiVariateGaussian(n_jobs=jobs).partial_fit(x).mahalanobis(x),
            ),
        ):
            with monkeypatch.context() as patch:
                patch.setattr(works, name, failing(k))
                try:
                    call()
                except error:
                    tried += 1
                    assert bits(model) == before
            assert engine() == threads
            model._fitted = start
    assert tried >= 4
    np.testing.assert_array_equal(
        model.partial_fit(x + 1).covariance,
        MultiVariateGaussian(n_jobs=1).fit(x).partial_fit(x + 1).covariance,
    )


@pytest.mark.parametrize("method", ["fit", "partial_fit", "calibrate", "threshold"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300])
def test_a_bad_number_in_any_place_leaves_the_model_as_it_was(x, method, bad, small_parts):
    model = MultiVariateGaussian(n_jobs=1).fit(x)
    before = bits(model)
    for i in range(x.size):
        broken = x.copy()
        broken.flat[i] = bad
        for value in (broken, OnDisk(broken)):
            with pytest.raises(ValueError, match="embedding: expected "):
                getattr(model, method)(value)
            assert bits(model) == before


# ---------------------------------------------------------------------------------------------------------
# the file


def saved(model, path, **options):
    """Save, and return what is in the file."""
    model.save(path, **options)
    return path.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("resumable", [True, False])
def test_a_fault_at_any_step_of_saving_leaves_the_old_file_or_the_whole_new_one(
    x, tmp_path, error, resumable
):
    model, new = MultiVariateGaussian(n_jobs=1).fit(x), MultiVariateGaussian(n_jobs=1).partial_fit(x + 1)
    after = saved(new, tmp_path / "m", resumable=resumable)
    before, kept, late = saved(model, tmp_path / "m"), bits(new), 0
    for _, where, done in every_step(lambda: new.save(tmp_path / "m", resumable=resumable), error):
        found = (tmp_path / "m").read_bytes()
        if done:
            assert found == after
        elif found == after:
            late += 1
        else:
            assert found == before, where
        assert os.listdir(tmp_path) == ["m"], where
        assert bits(new) == kept
        (tmp_path / "m").write_bytes(before)
    assert late <= 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("error", ERRORS)
def test_a_fault_at_any_step_of_loading_leaves_the_file_and_nothing_open(x, tmp_path, error):
    content = saved(MultiVariateGaussian(n_jobs=1).fit(x), tmp_path / "m")
    for _, where, _ in every_step(lambda: MultiVariateGaussian.load(tmp_path / "m"), error):
        assert (tmp_path / "m").read_bytes() == content, where
        assert os.listdir(tmp_path) == ["m"]
    os.remove(tmp_path / "m")  # nothing holds it, where that matters
    if Path("/proc/self/fd").exists():
        held = [
            os.readlink(f"/proc/self/fd/{n}")
            for n in os.listdir("/proc/self/fd")
            if os.path.exists(f"/proc/self/fd/{n}")
        ]
        assert not [name for name in held if str(tmp_path) in name]


class Full(io.RawIOBase):
    """A file on a disk that is full after some bytes."""

    def __init__(self, file, room):
        self.file, self.room = file, room

    def write(self, data):
        data = bytes(data)
        self.file.write(data[: max(0, self.room)])
        self.room -= len(data)
        if self.room < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return len(data)

    def __getattr__(self, name):
        return getattr(self.file, name)

    def writable(self):
        return True

    def seekable(self):
        return False

    def fileno(self):
        return self.file.fileno()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_disk_that_is_full_after_any_number_of_bytes_leaves_the_old_file(x, tmp_path, monkeypatch):
    model = MultiVariateGaussian(n_jobs=1).fit(x)
    before, savez = saved(model, tmp_path / "m"), np.savez
    for room in range(0, len(before), 97):
        monkeypatch.setattr(np, "savez", lambda file, room=room, **a: savez(Full(file, room), **a))
        with pytest.raises(OSError, match="No space left"):
            MultiVariateGaussian(n_jobs=1).fit(x + 1).save(tmp_path / "m")
        assert (tmp_path / "m").read_bytes() == before
        assert os.listdir(tmp_path) == ["m"]


def test_a_file_is_on_the_disk_before_it_takes_the_place_of_the_old_one(x, tmp_path, monkeypatch):
    """Else a loss of power may leave an empty file in the place of a good one."""
    done, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda *args: (done.append("fsync"), fsync(*args))[1])
    monkeypatch.setattr(os, "replace", lambda *args: (done.append("replace"), replace(*args))[1])
    saved(MultiVariateGaussian(n_jobs=1).fit(x), tmp_path / "m")
    assert done[:2] == ["fsync", "replace"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no such files here")
def test_what_is_no_file_is_not_replaced(x, tmp_path):
    """A superuser who saves to a device would lose it."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises((OSError, ValueError)):
            MultiVariateGaussian(n_jobs=1).fit(x).save(tmp_path / name)
    assert (tmp_path / "pipe").is_fifo()
    assert sorted(os.listdir(tmp_path)) == ["folder", "pipe"]


@pytest.mark.parametrize(
    "broken", ["numpy.savez", "os.fsync", "os.replace", "pathlib.Path.replace", "tempfile.mkdtemp"]
)
@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "full"), MemoryError(), KeyboardInterrupt()], ids=repr
)
def test_a_system_call_that_fails_leaves_the_old_file(x, tmp_path, monkeypatch, broken, error):
    def fails(*_, **__):
        raise error

    model, new = MultiVariateGaussian(n_jobs=1).fit(x), MultiVariateGaussian(n_jobs=1).fit(x + 1)
    before = saved(model, tmp_path / "m")
    with monkeypatch.context() as patch, contextlib.suppress(type(error)):
        patch.setattr(broken, fails)
        new.save(tmp_path / "m")
    assert (tmp_path / "m").read_bytes() in (before, saved(new, tmp_path / "n"))
    os.remove(tmp_path / "n")
    assert os.listdir(tmp_path) == ["m"]


def test_want_of_memory_is_not_called_damage(x, tmp_path, monkeypatch):
    """Nobody should throw away a good file since other programs took the memory."""

    def fails(*_, **__):
        raise MemoryError("no memory")

    model = MultiVariateGaussian(n_jobs=1).fit(x)
    model.save(tmp_path / "m")
    for function, call in (
        ("numpy.empty", lambda: MultiVariateGaussian.load(tmp_path / "m")),
        ("numpy.asarray", lambda: model.fit(x.tolist())),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(function, fails)
            with pytest.raises(MemoryError):
                call()


def test_a_long_name_is_taken_as_it_is(x, tmp_path):
    name = "m" * 255
    saved(MultiVariateGaussian(n_jobs=1).fit(x), tmp_path / name)
    assert os.listdir(tmp_path) == [name]


# ---------------------------------------------------------------------------------------------------------
# damaged files


@pytest.fixture
def small(rng, tmp_path):
    """Return a small model of every part that a file can have, and its file."""
    x = frozen(rng.standard_normal((4, 2, 2)))
    model = MultiVariateGaussian(n_jobs=1, reg_covar=0.1).fit(x).calibrate(x)
    model.threshold(x, 0.5, source="training")
    content = saved(model, tmp_path / "small")
    assert whole(MultiVariateGaussian.load(tmp_path / "small")) == whole(model)
    return model, content


@pytest.fixture
def tiny(rng, tmp_path):
    """Return a model in mid-stream and its file, the smallest there is."""
    model = MultiVariateGaussian(n_jobs=1).partial_fit(frozen(rng.standard_normal((3, 2))))
    return model, saved(model, tmp_path / "tiny")


def loads(path, content):
    """Return the model of a file's bytes."""
    path.write_bytes(content)
    return MultiVariateGaussian.load(path)


def loads_or_refuses(path, content):
    """Return the model of a file's bytes, None if it is refused in words, or the repr of another error."""
    try:
        return loads(path, content)
    except ValueError as error:
        return None if str(error).startswith("path: expected") else repr(error)
    except Exception as error:
        return repr(error)


def whole(model):
    """Return everything that is in a model, as comparable values."""
    values, arrays = _state.pack(model._fitted)
    return repr(values), {k: (a.dtype, a.shape, a.tobytes()) for k, a in arrays.items()}, model.get_params()


FLIPS = [0xFF, 0x01]


@pytest.mark.parametrize(("file", "stride"), [pytest.param("tiny", 1, marks=pytest.mark.slow), ("small", 7)])
def test_a_file_with_any_byte_flipped_is_refused_or_the_saved_model(request, tmp_path, file, stride):
    model, content = request.getfixturevalue(file)
    want, harmless = whole(model), 0
    for i in range(0, len(content), stride):
        for flip in FLIPS if stride == 1 else FLIPS[:1]:
            damaged = bytearray(content)
            damaged[i] ^= flip
            got = loads_or_refuses(tmp_path / "m", damaged)
            assert not isinstance(got, str), (i, got)
            if got is not None:
                assert whole(got) == want, i
                harmless += 1
    assert harmless < len(content)  # dates and the like of an archive


def test_a_file_cut_anywhere_is_refused(small, tmp_path):
    _, content = small
    for size in range(0, len(content), 11):
        with pytest.raises(ValueError, match="path: expected"):
            loads(tmp_path / "m", content[:size])


def test_a_file_with_bytes_lost_or_doubled_in_the_middle_is_refused_or_the_saved_model(small, tmp_path):
    model, content = small
    want = whole(model)
    for i in range(0, len(content), 61):
        for damaged in (
            content[:i] + content[i + 8 :],
            content[:i] + content[i : i + 8] + content[i:],
            content[:i] + bytes(8) + content[i + 8 :],
            content[i:],
            bytes(i) + content,
        ):
            got = loads_or_refuses(tmp_path / "m", damaged)
            assert got is None or whole(got) == want, (i, got)


def members(content):
    """Return the members of an archive."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(parts, compression=zipfile.ZIP_STORED):
    """Return an archive of members, given as (name, bytes)."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in parts:
            archive.writestr(name, data)
    return file.getvalue()


def npy(header, data=b""):
    """Return an array file with any text as its header."""
    text = header.encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


FORGED = {
    "a million million numbers": "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }\n",
    "many axes": "{'descr': '<f8', 'fortran_order': False, 'shape': (9999999, 9999999, 9999999), }\n",
    "negative": "{'descr': '<f8', 'fortran_order': False, 'shape': (-2, -2), }\n",
    "nothing of much": "{'descr': '<f8', 'fortran_order': False, 'shape': (0, 9223372036854775807), }\n",
    "a bool": "{'descr': '<f8', 'fortran_order': False, 'shape': (True, 2), }\n",
    "objects": "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n",
    "a structure": "{'descr': [('a', '|O')], 'fortran_order': False, 'shape': (1,), }\n",
    "text": "{'descr': '<U1000000000', 'fortran_order': False, 'shape': (1000,), }\n",
    "deep": "(" * 6_000 + ")" * 6_000,
    "long": "{'descr': '<f8', 'fortran_order': False, 'shape': (" + "1," * 30_000 + "), }\n",
    "a large number": "{'descr': '<f8', 'fortran_order': False, 'shape': (" + "9" * 5000 + ",), }\n",
    "code": "__import__('os').system('touch ran')",
    "no dict": "[]\n",
    "not closed": "{'descr': ",
}


@pytest.mark.parametrize("forged", list(FORGED))
@pytest.mark.parametrize("member", ["mean.npy", "header.npy"])
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_forged_array_header_is_refused_in_little_memory(small, tmp_path, monkeypatch, forged, member):
    monkeypatch.chdir(tmp_path)
    parts = members(small[1])
    parts[member] = npy(FORGED[forged], bytes(8))
    content = packed(parts.items())
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="path: expected"):
            loads(tmp_path / "m", content)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 30 << 20
    assert not (tmp_path / "ran").exists()


def header_of(text):
    """Return the member that holds a header."""
    file = io.BytesIO()
    np.save(file, np.frombuffer(text if isinstance(text, bytes) else text.encode(), np.uint8))
    return file.getvalue()


HEADERS = {
    "huge": '{"format": "' + "x" * 20_000_000 + '"}',
    "deep list": "[" * 50_000,
    "deep dict": '{"a":' * 9_000,
    "many": "[" + "1," * 30_000 + "1]",
    "long number": '{"a": ' + "9" * 60_000 + "}",
    "not utf-8": b"\xff\xfe\x00",
    "null": "null",
    "string": '"mvgauss"',
    "nan": "NaN",
    "empty": b"",
}


@pytest.mark.parametrize("forged", list(HEADERS))
def test_a_forged_text_is_refused_in_little_memory(small, tmp_path, forged):
    parts = members(small[1])
    parts["header.npy"] = header_of(HEADERS[forged])
    (tmp_path / "m").write_bytes(packed(parts.items()))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="path: expected"):
            MultiVariateGaussian.load(tmp_path / "m")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 60 << 20


VALUES = [
    None,
    True,
    -1,
    0,
    1.5,
    10**400,
    -(10**400),
    float("nan"),
    float("inf"),
    "x",
    "O",
    "f4",
    [],
    [[]],
    {},
]
VALUES += [[1], [2, 1], [-2], [10**30], {"a": 1}, [1.0, 0.1, "oas"], ["a", "b", "c"], "x" * 5000]


def places(header):
    """Yield the keys of a header, and of the parameters in it."""
    yield from ((key,) for key in header)
    yield from (("params", key) for key in header["params"])


def test_a_header_with_any_other_value_is_refused_or_a_model(small, tmp_path):
    """Nothing but a ValueError, whatever is in the place of a value."""
    parts = members(small[1])
    header, wrong = json.loads(np.load(io.BytesIO(parts["header.npy"])).tobytes()), {}
    for place, value in itertools.product(list(places(header)), VALUES):
        forged = json.loads(json.dumps(header))
        functools.reduce(dict.__getitem__, place[:-1], forged)[place[-1]] = value
        parts["header.npy"] = header_of(json.dumps(forged))
        got = loads_or_refuses(tmp_path / "m", packed(parts.items()))
        if isinstance(got, str):
            wrong[place, str(value)[:20]] = got
    assert not wrong


SHAPES = [
    np.float64(3),
    np.ones(0),
    np.ones((0, 0)),
    np.ones((2, 0)),
    np.ones(3),
    np.ones((2, 2)),
    np.ones((1, 1, 1)),
]
SHAPES += [
    np.ones((2, 2, 2)),
    np.ones((2, 3), np.float32),
    np.ones((2, 3), np.int64),
    np.ones((2, 3), np.uint8),
]


def test_a_file_with_any_other_array_is_refused_or_a_model(small, tmp_path):
    parts, wrong = members(small[1]), {}
    for name, array in itertools.product([n for n in parts if n != "header.npy"], SHAPES):
        file = io.BytesIO()
        np.save(file, array)
        got = loads_or_refuses(tmp_path / "m", packed({**parts, name: file.getvalue()}.items()))
        if isinstance(got, str):
            wrong[name, array.shape, array.dtype.name] = got
    assert not wrong


@pytest.mark.parametrize("dtype", ["c16", "f2", "g", "i8", "u1", "?", ">f8", "S8"])
def test_a_file_of_numbers_of_another_kind_is_refused(tiny, tmp_path, dtype):
    parts = members(tiny[1])
    for name in parts.keys() - {"header.npy"}:
        file = io.BytesIO()
        np.save(file, np.load(io.BytesIO(parts[name])).astype(dtype))
        parts[name] = file.getvalue()
    with pytest.raises(ValueError, match="path: expected"):
        loads(tmp_path / "m", packed(parts.items()))


def test_a_pickle_inside_is_never_run(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    class Run:
        def __reduce__(self):
            return os.mkdir, ("ran",)

    file = io.BytesIO()
    np.save(file, np.array([Run()], object), allow_pickle=True)
    parts = members(small[1])
    for name in parts:
        with pytest.raises(ValueError, match="path: expected"):
            loads(tmp_path / "m", packed({**parts, name: file.getvalue()}.items()))
    with pytest.raises(ValueError, match="path: expected"):
        loads(tmp_path / "m", packed({**parts, "extra.npy": file.getvalue()}.items()))
    import pickle

    with pytest.raises(ValueError, match="path: expected"):
        loads(tmp_path / "m", pickle.dumps(Run()))
    assert not (tmp_path / "ran").exists()


def test_a_member_too_few_too_many_or_twice_is_refused(small, tmp_path):
    parts = members(small[1])
    for name in parts:
        with pytest.raises(ValueError, match="path: expected"):
            loads(tmp_path / "m", packed([(n, d) for n, d in parts.items() if n != name]))
        with (
            pytest.warns(UserWarning, match="Duplicate"),
            pytest.raises(ValueError, match="path: expected"),
        ):
            loads(tmp_path / "m", packed([*parts.items(), (name, parts[name])]))
        with pytest.raises(ValueError, match="path: expected"):
            loads(tmp_path / "m", packed([*parts.items(), (name.removesuffix(".npy"), parts[name])]))
        with pytest.raises(ValueError, match="path: expected"):
            loads(
                tmp_path / "m", packed([(n, d) for n, d in parts.items() if n != name] + [(f"a/{name}", b"")])
            )


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_bomb_is_not_unpacked(tmp_path, method):
    big = npy("{'descr': '<f8', 'fortran_order': False, 'shape': (2000000,), }\n", bytes(16_000_000))
    content = packed([("mean.npy", big)], method)
    del big
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="path: expected"):
            loads(tmp_path / "m", content)
        assert tracemalloc.get_traced_memory()[1] < 5 << 20
    finally:
        tracemalloc.stop()
