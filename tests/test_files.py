"""Laws of `save` and `load`."""

import contextlib
import io
import json
import os
import re
import stat
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from common import EPS, assert_within, frozen

from mvgauss import MultiVariateGaussian


@pytest.fixture
def train(rng):
    return frozen(rng.standard_normal((9, 4, 2, 3)))


@pytest.fixture
def model(train):
    return MultiVariateGaussian().fit(train)


def same(got, want, test):
    """Assert that two models are equal to the last bit."""
    assert got.get_params() == want.get_params()
    for name in ("mean", "inv_covariance", "covariance", "rank"):
        a, b = getattr(got, name), getattr(want, name)
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(got.mahalanobis(test), want.mahalanobis(test))


OPTIONS = [
    {},
    {"reg_covar": 0, "ddof": 0},
    {"reg_covar": 0.1, "ddof": 1.5},
    {"n_patches": 6, "shrinkage": "oas"},
    {"shrinkage": "ledoit_wolf"},
    {"dtype": np.float32},
    {"dtype": "float64"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
@pytest.mark.parametrize("c", [4, 20], ids=["triangle", "rows"])
def test_a_loaded_model_is_the_saved_one_to_the_last_bit(tmp_path, rng, options, dtype, c):
    x = frozen(rng.standard_normal((9, c, 2, 3)), dtype)
    model = MultiVariateGaussian(**options).fit(x, sample_weight=np.arange(1.0, 10))
    model.save(tmp_path / "m.npz")
    got = MultiVariateGaussian.load(tmp_path / "m.npz")
    want = model.set_params(dtype=model.dtype and np.dtype(model.dtype).name)
    same(got, want, x)
    np.testing.assert_array_equal(got.fit(x).mean, want.fit(x).mean)


def test_tokens_and_numpy_scalars_as_parameters_are_saved(tmp_path, train):
    x = np.moveaxis(train, 1, -1)
    model = MultiVariateGaussian(
        np.int64(4), np.int64(6), feature_axis=np.int32(-1), reg_covar=np.float32(0.5), ddof=np.float64(1)
    ).fit(x)
    model.save(tmp_path / "m")
    same(MultiVariateGaussian.load(tmp_path / "m"), model, x)


def test_a_model_of_a_table_and_one_from_parameters_are_saved(tmp_path, train):
    table = MultiVariateGaussian().fit(train[:, :, 0, 0])
    table.save(tmp_path / "m")
    same(MultiVariateGaussian.load(tmp_path / "m"), table, train[:, :, 0, 0])
    given = MultiVariateGaussian.from_parameters(*table)
    given.save(tmp_path / "m")
    same(MultiVariateGaussian.load(tmp_path / "m"), given, train[:, :, :1, 0])


def test_a_model_of_given_size_is_saved_before_it_is_fitted(tmp_path, train):
    MultiVariateGaussian(4, 6).save(tmp_path / "m")
    same(MultiVariateGaussian.load(tmp_path / "m"), MultiVariateGaussian(4, 6), train)


def test_a_saved_and_loaded_and_saved_model_has_the_same_bytes(tmp_path, model):
    model.save(tmp_path / "a.npz")
    MultiVariateGaussian.load(tmp_path / "a.npz").save(tmp_path / "b.npz")
    a, b = np.load(tmp_path / "a.npz"), np.load(tmp_path / "b.npz")
    assert a.files == b.files
    assert all((a[k] == b[k]).all() for k in a.files)


def test_a_loaded_model_refuses_another_grid(tmp_path, train, model):
    model.save(tmp_path / "m")
    with pytest.raises(ValueError, match=r"embedding: expected .*grid.* \(2, 3\), got \(3, 2\)"):
        MultiVariateGaussian.load(tmp_path / "m").mahalanobis(train.swapaxes(2, 3))


def test_the_file_holds_no_pickle_and_numpy_reads_it(tmp_path, model):
    model.save(tmp_path / "m.npz")
    with np.load(tmp_path / "m.npz", allow_pickle=False) as file:
        header = json.loads(file["header"].tobytes())
        assert not any(file[name].dtype.hasobject for name in file.files)
    assert header["version"] == 2
    assert header["format"] == "mvgauss.MultiVariateGaussian"


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_factor_in_the_file_is_a_whitener_of_the_covariance(tmp_path, train, dtype):
    """One decision: factor, rank and log pseudo-determinant belong together."""
    x = train.astype(dtype)
    x[:, 0, 0, 0] = 3
    model = MultiVariateGaussian(reg_covar=0).fit(x)
    model.save(tmp_path / "m.npz")
    file = np.load(tmp_path / "m.npz")
    values = np.linalg.eigvalsh(model.covariance.astype(float))
    values[0, 0] = 1
    assert file["rank"].tolist() == [3, 4, 4, 4, 4, 4]
    assert_within(file["log_pdet"], np.log(values).sum(axis=1), 1e3 * np.finfo(dtype).eps)
    # the product is formed in double and rounded once
    w = file["root"].astype(float)
    np.testing.assert_array_equal((w.swapaxes(1, 2) @ w).astype(dtype), model.inv_covariance)


def test_a_file_in_rows_holds_what_the_inverse_is_made_of(tmp_path, rng):
    """Rows K and a small factor T: the inverse is that of s K^T K + ridge I."""
    x = frozen(rng.standard_normal((5, 12, 3)))
    model = MultiVariateGaussian(shrinkage=0.25).fit(x)
    model.save(tmp_path / "m.npz")
    file = np.load(tmp_path / "m.npz")
    assert "triangle" not in file.files
    assert "root" not in file.files
    k, s, ridge = file["rows"], file["scale"][:, None, None], file["ridge"][:, None, None]
    assert k.shape == (3, 4, 12)
    covariance = s * k.swapaxes(1, 2) @ k + ridge * np.eye(12)
    assert_within(covariance, model.covariance, 1e-14 * np.abs(covariance).max())
    assert_within(covariance @ model.inv_covariance, [np.eye(12)] * 3, 1e-11)
    t = file["small"]
    gram = s * k @ k.swapaxes(1, 2) + ridge * np.eye(4)
    assert_within(t @ gram @ t.swapaxes(1, 2), [np.eye(4)] * 3, 1e-12)
    assert_within(file["log_pdet"], np.linalg.slogdet(covariance)[1], 1e-11)
    assert file["rank"].tolist() == [12] * 3


def test_a_log_determinant_of_parameters_is_that_of_the_covariance(tmp_path):
    inverse = np.array([np.diag([4.0, 0.5]), np.diag([8.0, 0.0])])
    MultiVariateGaussian.from_parameters(np.zeros((2, 2)), inverse).save(tmp_path / "m.npz")
    assert_within(np.load(tmp_path / "m.npz")["log_pdet"], [-np.log(2), -np.log(8)], 16 * EPS)


@pytest.mark.parametrize("name", ["m", "m.npz", "m.dat", "ä b.npz", ".hidden"])
def test_the_name_is_taken_as_it_is(tmp_path, model, name):
    model.save(str(tmp_path / name))
    assert os.listdir(tmp_path) == [name]
    model.save(os.fsencode(tmp_path / name))
    assert os.listdir(tmp_path) == [name]
    assert (MultiVariateGaussian.load(tmp_path / name).mean == model.mean).all()


def test_saving_follows_a_link_and_keeps_it(tmp_path, model):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there" / "m")
    model.save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there" / "m").is_file()


@pytest.fixture
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


posix = pytest.mark.skipif(os.name != "posix", reason="files have no such modes here")


@posix
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002], indirect=True, ids=oct)
def test_a_new_file_has_the_mode_of_any_new_file(tmp_path, model, umask):
    model.save(tmp_path / "m")
    assert (tmp_path / "m").stat().st_mode & 0o777 == 0o666 & ~umask


@posix
@pytest.mark.parametrize("umask", [0o022, 0o077], indirect=True, ids=oct)
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o666], ids=oct)
def test_a_file_that_takes_the_place_of_another_has_its_mode_and_never_shows_more(
    tmp_path, model, umask, mode, monkeypatch
):
    savez, seen = np.savez, []

    def looks(file, **arrays):
        seen.append(os.fstat(file.fileno()).st_mode & 0o777)
        savez(file, **arrays)

    model.save(tmp_path / "m")
    (tmp_path / "m").chmod(mode)
    monkeypatch.setattr("numpy.savez", looks)
    model.save(tmp_path / "m")
    assert (tmp_path / "m").stat().st_mode & 0o777 == mode
    assert seen == [mode & ~umask]


@posix
def test_the_folder_is_synced_once_the_file_is_in_place(tmp_path, model, monkeypatch):
    synced, fsync = [], os.fsync

    def notes(descriptor):
        synced.append((stat.S_ISDIR(os.fstat(descriptor).st_mode), (tmp_path / "m").exists()))
        fsync(descriptor)

    monkeypatch.setattr("os.fsync", notes)
    model.save(tmp_path / "m")
    assert synced == [(False, False), (True, True)]


# ---------------------------------------------------------------------------------------------------------
# failures


@pytest.mark.parametrize("broken", ["numpy.savez", "os.fsync", "pathlib.Path.replace", "json.dumps"])
@pytest.mark.parametrize(
    "error", [OSError("no space left"), KeyboardInterrupt()], ids=["OSError", "interrupt"]
)
def test_a_failed_save_leaves_the_old_file_and_nothing_else(
    tmp_path, train, model, broken, error, monkeypatch
):
    def fails(*_, **__):
        raise error

    model.save(tmp_path / "m.npz")
    old = (tmp_path / "m.npz").read_bytes()
    new = MultiVariateGaussian().fit(train + 1)
    with monkeypatch.context() as patch:
        patch.setattr(broken, fails)
        with pytest.raises(type(error)):
            new.save(tmp_path / "m.npz")
    assert (tmp_path / "m.npz").read_bytes() == old
    assert os.listdir(tmp_path) == ["m.npz"]


def test_a_write_that_stops_half_way_leaves_the_old_file(tmp_path, train, model, monkeypatch):
    def half(file, **arrays):
        file.write(b"PK")
        raise OSError("no space left")

    model.save(tmp_path / "m.npz")
    monkeypatch.setattr("numpy.savez", half)
    with pytest.raises(OSError, match="no space left"):
        MultiVariateGaussian().fit(train + 1).save(tmp_path / "m.npz")
    np.testing.assert_array_equal(MultiVariateGaussian.load(tmp_path / "m.npz").mean, model.mean)
    assert os.listdir(tmp_path) == ["m.npz"]


KILLED = """
import os, signal, sys
import numpy as np
from mvgauss import _files

def half(file, **arrays):
    file.write(bytes(100_000))
    os.kill(os.getpid(), signal.SIGKILL)

np.savez = half
_files.write(sys.argv[1], {}, {"mean": np.ones(3)})
"""


@posix
def test_what_a_killed_save_left_behind_goes_with_the_next_one_of_the_same_name(tmp_path, model):
    for name in ("m", "other"):
        done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / name)], check=False)
        assert done.returncode == -9
    assert len(os.listdir(tmp_path)) == 2
    model.save(tmp_path / "m")
    assert len(os.listdir(tmp_path)) == 2
    model.save(tmp_path / "other")
    assert sorted(os.listdir(tmp_path)) == ["m", "other"]


@posix
def test_what_a_save_in_another_process_is_writing_is_left_to_it(tmp_path, model):
    waiting = KILLED.replace("os.kill(os.getpid(), signal.SIGKILL)", "file.flush(); print(); input()")
    command = [sys.executable, "-uc", waiting, str(tmp_path / "m")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        model.save(tmp_path / "m")
        assert len(os.listdir(tmp_path)) == 2
        process.communicate(b"\n", timeout=60)
    assert process.returncode == 0
    assert os.listdir(tmp_path) == ["m"]
    assert (tmp_path / "m").read_bytes() == bytes(100_000)


def test_saves_of_one_name_from_many_threads_leave_one_whole_file(tmp_path, train):
    models = [MultiVariateGaussian().fit(train + k) for k in range(4)]

    def saves(model):
        for _ in range(20):
            model.save(tmp_path / "m")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(saves, models))
    assert os.listdir(tmp_path) == ["m"]
    assert MultiVariateGaussian.load(tmp_path / "m").mean[0, 0] in [m.mean[0, 0] for m in models]


def test_an_empty_file_may_be_one_that_is_not_yet_locked_and_is_left_for_a_day(tmp_path, model, monkeypatch):
    savez, names = np.savez, []

    def looks(file, **arrays):
        names.append(file.name)
        savez(file, **arrays)

    monkeypatch.setattr("numpy.savez", looks)
    model.save(tmp_path / "m")
    left = Path(names[0])
    left.touch()
    model.save(tmp_path / "m")
    assert left.exists()
    os.utime(left, (0, 0))
    model.save(tmp_path / "m")
    assert os.listdir(tmp_path) == ["m"]


def test_without_locks_what_was_left_behind_goes_after_a_day(tmp_path, model, monkeypatch):
    monkeypatch.setattr("mvgauss._files.fcntl", None)
    test_an_empty_file_may_be_one_that_is_not_yet_locked_and_is_left_for_a_day(tmp_path, model, monkeypatch)


def test_a_folder_whose_locks_fail_is_saved_to(tmp_path, model, monkeypatch):
    def fails(*_):
        raise OSError("no locks available")

    pytest.importorskip("fcntl")
    monkeypatch.setattr("fcntl.flock", fails)
    model.save(tmp_path / "m")
    model.save(tmp_path / "m")
    assert os.listdir(tmp_path) == ["m"]


def test_an_unfitted_model_is_not_saved(tmp_path):
    with pytest.raises(ValueError, match="not fitted"):
        MultiVariateGaussian().save(tmp_path / "m.npz")
    assert not os.listdir(tmp_path)


def test_a_folder_that_is_not_there_is_an_os_error(tmp_path, model):
    with pytest.raises(OSError, match="nowhere"):
        model.save(tmp_path / "nowhere" / "m.npz")


@pytest.mark.parametrize("path", [3.5, None, ["m"], object()])
def test_a_path_that_is_none_is_refused(model, path):
    for call in (model.save, MultiVariateGaussian.load):
        with pytest.raises(TypeError, match="path: expected a path, got"):
            call(path)


@pytest.mark.parametrize("error", [ValueError, FileNotFoundError])
def test_a_missing_file_is_an_error_of_both_kinds(tmp_path, error):
    with pytest.raises(error, match=r"path: expected a saved model, got no file at .*missing\.npz"):
        MultiVariateGaussian.load(tmp_path / "missing.npz")


FOREIGN = {
    "empty": b"",
    "text": b"hello, world\n" * 20,
    "zeros": bytes(1000),
    "half a zip": b"PK\x03\x04" + bytes(100),
    "empty zip": b"PK\x05\x06" + bytes(18),
}


@pytest.mark.parametrize("kind", list(FOREIGN))
def test_a_foreign_file_is_refused(tmp_path, kind):
    (tmp_path / "m").write_bytes(FOREIGN[kind])
    with pytest.raises(ValueError, match=r"path: expected a file written by MultiVariateGaussian\.save, got"):
        MultiVariateGaussian.load(tmp_path / "m")


@pytest.mark.parametrize(
    "write",
    [
        lambda f: np.savez(f, mean=np.ones(3)),
        lambda f: np.savez_compressed(f, mean=np.ones(3)),
        lambda f: np.savez(f, mean=np.array([{}])),
        lambda f: np.savez(f, header=np.arange(3.0)),
        lambda f: np.savez(f, header=np.frombuffer(b"[1]", np.uint8)),
        lambda f: np.savez(f, header=np.frombuffer(b"{]", np.uint8)),
        lambda f: np.savez(f, header=np.frombuffer(b"\xff\xfe", np.uint8)),
        lambda f: np.savez(f, header=np.frombuffer(b'{"format": "other", "version": 1}', np.uint8)),
        lambda f: np.save(f, np.ones(3)),
        lambda f: zipfile.ZipFile(f, "w").writestr("readme.txt", "hello"),
    ],
    ids=["npz", "compressed", "pickle", "number", "list", "no json", "no text", "format", "npy", "zip"],
)
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_archive_of_something_else_is_refused(tmp_path, write):
    file = io.BytesIO()
    write(file)
    (tmp_path / "m").write_bytes(file.getvalue())
    with pytest.raises(ValueError, match=r"path: expected a file written by MultiVariateGaussian\.save, got"):
        MultiVariateGaussian.load(tmp_path / "m")


def rewritten(path, change_header=None, change=None):
    """Rewrite a saved file with another header or other arrays."""
    with np.load(path) as file:
        arrays = dict(file)
    header = json.loads(arrays.pop("header").tobytes())
    if change_header is not None:
        header.update(change_header)
    if change is not None:
        change(arrays, header)
        if "members" in header:
            header["members"] = sorted(arrays)
    with open(path, "wb") as file:
        np.savez(file, header=np.frombuffer(json.dumps(header).encode(), np.uint8), **arrays)


@pytest.mark.parametrize("version", [3, 0, -1, "1", None, 1.5, 1.0, 2.0, True, [2]], ids=repr)
def test_another_version_is_refused_by_its_number(tmp_path, model, version):
    model.save(tmp_path / "m")
    rewritten(tmp_path / "m", {"version": version})
    with pytest.raises(
        ValueError, match=rf"path: expected .* version 1 or 2, got version {re.escape(repr(version))} in"
    ):
        MultiVariateGaussian.load(tmp_path / "m")


@pytest.mark.parametrize("part", [0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.999])
def test_a_truncated_file_is_refused(tmp_path, model, part):
    model.save(tmp_path / "m")
    whole = (tmp_path / "m").read_bytes()
    (tmp_path / "m").write_bytes(whole[: int(part * len(whole))])
    with pytest.raises(ValueError, match="path: expected"):
        MultiVariateGaussian.load(tmp_path / "m")


@pytest.mark.parametrize("seed", range(40))
def test_a_flipped_byte_is_refused_or_harmless(tmp_path, train, model, seed):
    """Never a wrong number: the archive's checksums see what changes an array."""
    model.save(tmp_path / "m")
    content = bytearray((tmp_path / "m").read_bytes())
    rng = np.random.default_rng(seed)
    content[rng.integers(len(content))] ^= int(rng.integers(1, 256))
    (tmp_path / "m").write_bytes(content)
    with contextlib.suppress(ValueError):
        got = MultiVariateGaussian.load(tmp_path / "m")
        np.testing.assert_array_equal(got.mahalanobis(train), model.mahalanobis(train))


def drop(name):
    """Return what drops a member, and a readable id for it."""

    def change(arrays, header):
        (arrays if name in arrays else header).pop(name)

    change.__name__ = f"without {name}"
    return change


def replaced(name, value):
    """Return what replaces a member of the file or of its header."""

    def change(arrays, header):
        if callable(value):
            arrays[name] = value(arrays[name])
        else:
            assert name in header
            header[name] = value

    change.__name__ = f"another {name}"
    return change


def with_a_shift(arrays, header):
    """Rows are less their shift already."""
    arrays["shift"] = arrays["mean"]


def with_a_shift_and_no_moments(arrays, header):
    arrays["shift"] = arrays["mean"]
    arrays["rows"] = arrays.pop("rows").astype(header["dtype"])
    header["resumable"] = False


def without_samples(arrays, header):
    for name in set(arrays) - {"mean", "samples", "shift"}:
        del arrays[name]
    arrays["samples"] = arrays["samples"][:, :0]
    header.update(n_samples=0, sum_weights=0, sum_squared_weights=0)


BOTH = [
    *(
        drop(name)
        for name in ("mean", "rank", "log_pdet", "params", "grid", "dtype", "n_samples", "resumable")
    ),
    replaced("mean", lambda a: a[:, :2]),
    replaced("mean", lambda a: a[:3]),
    replaced("mean", lambda a: a.ravel()),
    replaced("mean", lambda a: a * np.nan),
    replaced("mean", lambda a: a.astype(np.float32)),
    replaced("rank", lambda a: a[:3]),
    replaced("rank", lambda a: a.astype(float)),
    replaced("log_pdet", lambda a: a[:3]),
    replaced("grid", [2, 4]),
    replaced("grid", ["a"]),
    replaced("grid", 6),
    replaced("dtype", "object"),
    replaced("dtype", "no such"),
    replaced("params", {"no_such": 3}),
    replaced("params", 3),
    replaced("sum_weights", "many"),
    replaced("sum_weights", None),
    replaced("n_samples", 3),
]
TRIANGLE = [
    replaced("resumable", False),
    drop("root"),
    drop("triangle"),
    replaced("root", lambda a: a[:, :, :2]),
    replaced("root", lambda a: a[:3]),
    replaced("root", lambda a: a[0]),
    replaced("root", lambda a: np.full_like(a, np.inf)),
    replaced("triangle", lambda a: a[:, :3]),
    replaced("triangle", lambda a: a[:3]),
]
ROWS = [
    with_a_shift,
    with_a_shift_and_no_moments,
    *(drop(name) for name in ("rows", "small", "scale", "ridge")),
    replaced("rows", lambda a: a[:, :3]),
    replaced("rows", lambda a: a[:, :, :3]),
    replaced("rows", lambda a: a[:3]),
    replaced("rows", lambda a: a.astype(np.float32)),
    replaced("small", lambda a: a[:, :3]),
    replaced("small", lambda a: a * np.nan),
    replaced("scale", lambda a: a[:3]),
    replaced("scale", lambda a: -a),
    replaced("ridge", lambda a: -a),
    replaced("ridge", lambda a: a.reshape(2, 3)),
]
SAMPLES = [
    replaced("resumable", False),
    without_samples,
    replaced("sum_weights", 8.5),
    *(drop(name) for name in ("samples", "shift", "small", "scale", "ridge")),
    *(replaced("samples", change) for change in (lambda a: a[:, 1:], lambda a: a[:3], lambda a: a[:, :, :3])),
    replaced("samples", lambda a: a.astype(float)),
    replaced("samples", lambda a: a * np.nan),
    replaced("shift", lambda a: a[:3]),
    replaced("shift", lambda a: a[:, :3]),
    replaced("shift", lambda a: a.astype(np.float32)),
    replaced("small", lambda a: a[:, 1:, 1:]),
]
KINDS = {"triangle": (4, float), "rows": (20, float), "samples": (20, np.float32)}


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        *(("triangle", change) for change in BOTH + TRIANGLE),
        *(("rows", change) for change in BOTH + ROWS),
        *(("samples", change) for change in BOTH + SAMPLES),
    ],
    ids=lambda v: v if isinstance(v, str) else v.__name__,
)
def test_a_file_whose_parts_do_not_fit_is_refused(tmp_path, rng, kind, change):
    c, dtype = KINDS[kind]
    MultiVariateGaussian().fit(rng.standard_normal((9, c, 2, 3)).astype(dtype)).save(tmp_path / "m")
    rewritten(tmp_path / "m", change=lambda *_: None)
    MultiVariateGaussian.load(tmp_path / "m")
    rewritten(tmp_path / "m", change=change)
    with pytest.raises(ValueError, match="path: expected"):
        MultiVariateGaussian.load(tmp_path / "m")


def test_a_compressed_file_is_not_unpacked(tmp_path, model):
    """A small file could hold more than memory does."""
    model.save(tmp_path / "m")
    with np.load(tmp_path / "m") as file:
        arrays = dict(file)
    with open(tmp_path / "m", "wb") as file:
        np.savez_compressed(file, **arrays)
    with pytest.raises(ValueError, match=r"path: expected a file written by MultiVariateGaussian\.save"):
        MultiVariateGaussian.load(tmp_path / "m")


def test_a_header_that_promises_more_than_there_is_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "m", "w") as archive, archive.open("mean.npy", "w") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "<f8", "fortran_order": False, "shape": (1 << 40,)}
        )
    with pytest.raises(ValueError, match=r"path: expected a file written by MultiVariateGaussian\.save"):
        MultiVariateGaussian.load(tmp_path / "m")
