"""Laws of `save` and `load`."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from common import frozen, needs_threads

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
    given = MultiVariateGaussian.from_parameters(table.mean, table.inv_covariance)
    given.save(tmp_path / "m")
    same(MultiVariateGaussian.load(tmp_path / "m"), given, train[:, :, :1, 0])


def test_a_model_of_given_size_is_saved_before_it_is_fitted(tmp_path, train):
    MultiVariateGaussian(4, 6).save(tmp_path / "m")
    same(MultiVariateGaussian.load(tmp_path / "m"), MultiVariateGaussian(4, 6), train)


def test_a_saved_and_loaded_and_saved_model_has_the_same_bytes(tmp_path, model):
    model.save(tmp_path / "a.npz")
    MultiVariateGaussian.load(tmp_path / "a.npz").save(tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_a_loaded_model_refuses_another_grid(tmp_path, train, model):
    model.save(tmp_path / "m")
    with pytest.raises(ValueError, match=r"embedding: expected .*grid.* \(2, 3\), got \(3, 2\)"):
        MultiVariateGaussian.load(tmp_path / "m").mahalanobis(train.swapaxes(2, 3))


def test_the_file_holds_no_pickle_and_numpy_reads_it(tmp_path, model):
    model.save(tmp_path / "m.npz")
    with np.load(tmp_path / "m.npz", allow_pickle=False) as file:
        header = json.loads(file["header"].tobytes())
        assert not any(file[name].dtype.hasobject for name in file.files)
    assert header["version"] == 3
    assert header["format"] == "mvgauss.MultiVariateGaussian"


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


def test_an_unfitted_model_is_not_saved(tmp_path):
    with pytest.raises(ValueError, match="not fitted"):
        MultiVariateGaussian().save(tmp_path / "m.npz")
    assert not os.listdir(tmp_path)


def test_a_folder_that_is_not_there_is_an_os_error(tmp_path, model):
    with pytest.raises(OSError, match=r"path: expected a folder that exists, got .*nowhere"):
        model.save(tmp_path / "nowhere" / "m.npz")


@pytest.mark.parametrize("path", [3.5, None, ["m"], object()])
def test_a_path_that_is_none_is_refused(model, path):
    for call in (model.save, MultiVariateGaussian.load):
        with pytest.raises(TypeError, match="path: expected a path, got"):
            call(path)


@pytest.mark.parametrize("error", [ValueError, FileNotFoundError])
@pytest.mark.parametrize("name", ["missing.npz", "file/missing.npz"])
def test_a_missing_file_is_an_error_of_both_kinds(tmp_path, name, error):
    (tmp_path / "file").touch()
    with pytest.raises(error, match=r"path: expected a saved model, got no file at .*missing\.npz"):
        MultiVariateGaussian.load(tmp_path / name)


posix = pytest.mark.skipif(os.name != "posix", reason="files have no such modes here")
as_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may give files to others"
)


@contextlib.contextmanager
def user(uid, gid):
    """Be another user, who has no other group."""
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(gid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


@pytest.fixture
def shared():
    """Return a folder that every user can reach and write."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    yield folder
    folder.chmod(0o777)
    shutil.rmtree(folder)


def raises(error):
    """Return a function that raises."""

    def fails(*_, **__):
        raise error

    return fails


@pytest.fixture
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def beside_during_a_save(model, path, monkeypatch):
    """Save a model in the place of another; return the file that is beside it meanwhile, and its mode."""
    seen, write_array = [], np.lib.format.write_array

    def looks(*args, **kwargs):
        seen.extend((other, other.stat().st_mode & 0o777) for other in path.parent.iterdir() if other != path)
        write_array(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr("numpy.lib.format.write_array", looks)
        model.save(path)
    return seen[-1]


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
    model.save(tmp_path / "m")
    (tmp_path / "m").chmod(mode)
    _path, seen = beside_during_a_save(model, tmp_path / "m", monkeypatch)
    assert (tmp_path / "m").stat().st_mode & 0o777 == mode
    assert seen == 0o600


@as_root
def test_a_file_that_takes_the_place_of_another_has_its_owner_and_group(tmp_path, model):
    model.save(tmp_path / "m")
    os.chown(tmp_path / "m", 1234, 4321)
    model.save(tmp_path / "m")
    status = (tmp_path / "m").stat()
    assert (status.st_uid, status.st_gid) == (1234, 4321)


@as_root
@pytest.mark.parametrize(("mode", "after"), [(0o660, 0o600), (0o664, 0o644), (0o666, 0o666)])
def test_who_may_not_keep_the_owner_is_told_and_another_group_may_not_do_more(shared, model, mode, after):
    model.save(shared / "m")
    os.chown(shared / "m", 1234, 4321)
    (shared / "m").chmod(mode)
    message = "path: expected to keep user 1234 and group 4321 as the owners of .*, got user 99 and group 98"
    with user(99, 98), pytest.warns(UserWarning, match=message):
        model.save(shared / "m")
    status = (shared / "m").stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (99, 98, after)


@posix
def test_a_folder_that_can_be_written_but_not_listed_is_saved_to(shared, model):
    shared.chmod(0o333)
    with user(99, 98) if os.geteuid() == 0 else contextlib.nullcontext():
        with pytest.raises(PermissionError):
            os.listdir(shared)
        model.save(shared / "m")
        model.save(shared / "m")
    shared.chmod(0o777)
    assert os.listdir(shared) == ["m"]


@pytest.mark.parametrize("broken", ["numpy.lib.format.write_array", "os.fsync", "pathlib.Path.replace"])
@pytest.mark.parametrize("error", [OSError("no space left"), KeyboardInterrupt()], ids=repr)
def test_a_failed_save_leaves_the_old_file_and_nothing_else(tmp_path, model, broken, error, monkeypatch):
    model.save(tmp_path / "m.npz")
    old = (tmp_path / "m.npz").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(broken, raises(error))
        with pytest.raises(type(error)):
            MultiVariateGaussian().fit(np.eye(4)).save(tmp_path / "m.npz")
    assert (tmp_path / "m.npz").read_bytes() == old
    assert os.listdir(tmp_path) == ["m.npz"]


STOPS = """
import os, signal, sys
import numpy as np
from mvgauss import MultiVariateGaussian

def half(file, *_, **__):
    file.write(bytes(100_000))
    file._fileobj.flush()
    {stop}

np.lib.format.write_array = half
MultiVariateGaussian().fit(np.eye(3)).save(sys.argv[1])
"""


def be_old(folder):
    """Make the files of a folder as old as those that nobody writes any more."""
    for path in folder.iterdir():
        os.utime(path, (0, 0))


@posix
def test_what_a_killed_save_left_behind_goes_with_a_later_one_of_the_same_name(tmp_path, model):
    killed = STOPS.format(stop="os.kill(os.getpid(), signal.SIGKILL)")
    for name in ("m", "other"):
        done = subprocess.run([sys.executable, "-c", killed, str(tmp_path / name)], check=False)
        assert done.returncode == -9
    assert len(os.listdir(tmp_path)) == 2
    be_old(tmp_path)
    model.save(tmp_path / "m")
    assert len(os.listdir(tmp_path)) == 2
    model.save(tmp_path / "other")
    assert sorted(os.listdir(tmp_path)) == ["m", "other"]


@posix
def test_what_a_save_in_another_process_is_writing_is_left_to_it(tmp_path, model):
    command = [sys.executable, "-uc", STOPS.format(stop="print(); input(); os._exit(3)"), str(tmp_path / "m")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        model.save(tmp_path / "m")
        assert len(os.listdir(tmp_path)) == 2
        process.communicate(b"\n", timeout=60)
    assert process.returncode == 3
    be_old(tmp_path)
    model.save(tmp_path / "m")
    assert os.listdir(tmp_path) == ["m"]


def test_saves_of_one_name_from_many_threads_leave_one_whole_file(tmp_path, train):
    models = [MultiVariateGaussian().fit(train + k) for k in range(4)]

    def saves(model):
        for _ in range(20):
            model.save(tmp_path / "m")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(saves, models))
    assert os.listdir(tmp_path) == ["m"]
    assert MultiVariateGaussian.load(tmp_path / "m").mean[0, 0] in [m.mean[0, 0] for m in models]


@pytest.fixture
def left(tmp_path, model, monkeypatch):
    """Return the name of a temporary file that a saver of `m` had."""
    model.save(tmp_path / "m")
    (path, _mode) = beside_during_a_save(model, tmp_path / "m", monkeypatch)
    return path


@pytest.mark.parametrize("size", [0, 9])
def test_a_file_that_a_saver_may_be_writing_is_left_for_an_hour(tmp_path, model, left, size):
    left.write_bytes(bytes(size))
    now = left.stat().st_mtime
    for age in (0, 3500):
        os.utime(left, (now - age, now - age))
        model.save(tmp_path / "m")
        assert left.exists()
    os.utime(left, (now - 3700, now - 3700))
    model.save(tmp_path / "m")
    assert os.listdir(tmp_path) == ["m"]


@posix
@needs_threads
@pytest.mark.parametrize("kind", ["pipe", "link to a pipe", "folder", "link to a file"])
def test_a_save_neither_waits_for_nor_removes_what_is_no_regular_file(tmp_path, model, left, kind):
    other = tmp_path / "other"
    if kind == "pipe":
        os.mkfifo(left)
    elif kind == "folder":
        left.mkdir()
    else:
        os.mkfifo(other) if kind == "link to a pipe" else other.write_text("text")
        left.symlink_to(other)
    os.utime(left, (0, 0), follow_symlinks=False)
    saver = threading.Thread(target=model.save, args=(tmp_path / "m",), daemon=True)
    saver.start()
    saver.join(timeout=60)
    assert not saver.is_alive()
    assert left.is_symlink() or left.exists()
    MultiVariateGaussian.load(tmp_path / "m")
