"""Whatever lies at a path, loading it ends, takes little memory, and gives a model or a `ValueError`."""

import io
import json
import os
import socket
import struct
import zipfile
import zlib
from functools import partial

import numpy as np
import pytest
from common import frozen
from forging import archive, array_of, loaded, members, npy, parts, peak_of, put
from hypothesis import given
from hypothesis import strategies as st

from mvgauss import MultiVariateGaussian

posix = pytest.mark.skipif(os.name != "posix", reason="there are no such files here")
X = frozen(np.random.default_rng(7).standard_normal((5, 3, 2)))
REFUSED = r"^path: expected a file written by MultiVariateGaussian\.save, got "


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Return the path of a small saved model: 2 patches, 3 features."""
    path = tmp_path_factory.mktemp("saved") / "model"
    MultiVariateGaussian().fit(X).save(path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("forged")


def is_refused_or_equal(path, saved):
    """Return whether a file is refused, or has the distances of the saved one."""
    model, want = loaded(path), MultiVariateGaussian.load(saved)
    return model is None or np.array_equal(model.mahalanobis(X), want.mahalanobis(X))


@posix
@pytest.mark.parametrize("kind", ["folder", "pipe", "link to a device", "socket"])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path, kind, monkeypatch):
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    with socket.socket(socket.AF_UNIX) as s:
        makes = {"folder": os.mkdir, "pipe": os.mkfifo, "socket": s.bind}
        makes["link to a device"] = partial(os.symlink, "/dev/zero")
        makes[kind]("m")
    with pytest.raises(ValueError, match=f"{REFUSED}.* not a regular file"):
        MultiVariateGaussian.load("m")


@posix
def test_a_pipe_that_takes_the_place_of_a_file_while_it_is_opened_is_refused(tmp_path, saved, monkeypatch):
    os.mkfifo(tmp_path / "m")
    stat = os.stat
    monkeypatch.setattr("os.stat", lambda path: stat(saved))
    with pytest.raises(ValueError, match="which is not a regular file"):
        MultiVariateGaussian.load(tmp_path / "m")


FOREIGN = {
    "empty": lambda f: None,
    "text": lambda f: f.write(b"hello, world\n" * 20),
    "empty zip": lambda f: f.write(b"PK\x05\x06" + bytes(18)),
    "npy": lambda f: np.save(f, np.ones(3)),
    "npz": lambda f: np.savez(f, mean=np.ones(3)),
    "pickle": lambda f: np.savez(f, header=np.array([{}])),
    "list": lambda f: np.savez(f, header=np.frombuffer(b"[1]", np.uint8)),
    "no JSON": lambda f: np.savez(f, header=np.frombuffer(b"{]", np.uint8)),
    "no text": lambda f: np.savez(f, header=np.frombuffer(b"\xff\xfe", np.uint8)),
    "zip": lambda f: zipfile.ZipFile(f, "w").writestr("readme.txt", "hello"),
}


@pytest.mark.parametrize("kind", list(FOREIGN))
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_file_of_another_kind_is_refused(tmp_path, kind):
    file = io.BytesIO()
    FOREIGN[kind](file)
    (tmp_path / "m").write_bytes(file.getvalue())
    with pytest.raises(ValueError, match=REFUSED):
        MultiVariateGaussian.load(tmp_path / "m")


@pytest.mark.parametrize("version", [1, 2, 4, 0, -1, "3", None, 3.5, 3.0, True, [3], 2**1000], ids=repr)
def test_another_version_is_refused_by_both_numbers(tmp_path, saved, version):
    header, arrays = parts(saved)
    put(tmp_path / "m", header | {"version": version}, {"other": np.zeros(3)} if version == 1 else arrays)
    with pytest.raises(ValueError, match=r"path: expected a file of format version 3, got version") as info:
        MultiVariateGaussian.load(tmp_path / "m")
    assert f"got version {version!r}"[:60] in str(info.value)


@pytest.mark.parametrize("part", [0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.999])
def test_a_truncated_file_is_refused(tmp_path, saved, part):
    whole = saved.read_bytes()
    (tmp_path / "m").write_bytes(whole[: int(part * len(whole))])
    assert loaded(tmp_path / "m") is None


@given(
    st.lists(st.tuples(st.integers(0), st.integers(0, 12), st.binary(max_size=12)), min_size=1, max_size=4)
)
def test_a_file_edited_anywhere_is_refused_or_the_same(folder, saved, edits):
    """Never a wrong number: the archive's checksums see what changes an array."""
    content = saved.read_bytes()
    for start, lost, new in edits:
        start %= len(content)
        content = content[:start] + new + content[start + lost :]
    (folder / "m").write_bytes(content)
    assert is_refused_or_equal(folder / "m", saved)


NAMES = [
    "/a.npy",
    "../a.npy",
    "a/b.npy",
    "C:a.npy",
    "a",
    "A.NPY",
    ".npy",
    "a\x1b[2J.npy",
    "a\n.npy",
    "é!.npy",
]


@pytest.mark.parametrize("name", [*NAMES, "extra.npy", "mean.npy\0"])
def test_a_member_more_is_refused_whatever_its_name(tmp_path, saved, name):
    archive(tmp_path / "m", [*members(saved).items(), ("x" * len(name), array_of(np.zeros(2)))])
    content = (tmp_path / "m").read_bytes().replace(b"x" * len(name), name.encode("cp437"))
    (tmp_path / "m").write_bytes(content)
    assert loaded(tmp_path / "m") is None


def test_a_member_whose_name_goes_on_behind_its_end_is_refused(tmp_path, saved):
    for name in members(saved):
        pairs = {other.replace(name, f"{name}x"): content for other, content in members(saved).items()}
        archive(tmp_path / "m", pairs.items())
        content = (tmp_path / "m").read_bytes().replace(f"{name}x".encode(), f"{name}\0".encode())
        (tmp_path / "m").write_bytes(content)
        assert loaded(tmp_path / "m") is None


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_that_is_there_twice_is_refused(tmp_path, saved):
    for name, content in members(saved).items():
        archive(tmp_path / "m", [*members(saved).items(), (name, content)])
        assert loaded(tmp_path / "m") is None


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_compressed_member_is_not_unpacked(tmp_path, saved, method):
    """A small file could hold more than memory does."""
    for compressed in members(saved):
        with zipfile.ZipFile(tmp_path / "m", "w") as file:
            for name, content in members(saved).items():
                file.writestr(name, content, method if name == compressed else zipfile.ZIP_STORED)
        with pytest.raises(ValueError, match=f"{REFUSED}.* is compressed"):
            MultiVariateGaussian.load(tmp_path / "m")


def test_a_member_that_is_said_to_be_of_another_size_is_refused(tmp_path, saved):
    contents = members(saved)
    archive(tmp_path / "whole", contents.items())
    whole = (tmp_path / "whole").read_bytes()
    for content in contents.values():
        for size in (0, 9, len(content) - 8, len(content) + 8, 1 << 31):
            sizes = [struct.pack("<2L", n, n) for n in (len(content), size)]
            (tmp_path / "m").write_bytes(whole.replace(*sizes))
            assert loaded(tmp_path / "m") is None


def with_mean(path, saved, header, version=b"\x01\x00", content=None):
    """Write the saved model with another `.npy` header before the numbers of its mean."""
    contents = members(saved)
    content = contents["mean.npy"][-48:] if content is None else content
    archive(path, {**contents, "mean.npy": npy(header, content, version)}.items())


GOOD = "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 3), }\n"
HEADERS = {
    "a dtype as a dict": GOOD.replace("'<f8'", "{'names': ['a'], 'formats': ['<f8']}"),
    "a dtype as a list": GOOD.replace("'<f8'", "[('a', '<f8')]"),
    "a dtype as a tuple": GOOD.replace("'<f8'", "('<f8', (1,))"),
    "a dtype of control characters": GOOD.replace("'<f8'", "'\\x1b[2J,'"),
    "a dtype of code": GOOD.replace("'<f8'", "'f8,('"),
    **{
        f"a dtype {d}": GOOD.replace("<f8", d)
        for d in ("|O", "<U2", "|S8", "|V8", "<M8[s]", "<c16", "|b1", "")
    },
    "Fortran order": GOOD.replace("False", "True"),
    "negative lengths": GOOD.replace("(2, 3)", "(-2, -3)"),
    "3,001 axes": GOOD.replace("(2, 3)", f"({'1,' * 2999}2, 3)"),
    "65 axes": GOOD.replace("(2, 3)", f"({'1,' * 63}2, 3)"),
    "a number of 1,024 bits": GOOD.replace("(2, 3)", f"(2, {2**1023})"),
    "a product of lengths that is as many in 64 bits": GOOD.replace("(2, 3)", f"(2, {2**63 + 3})"),
    "fewer numbers": GOOD.replace("(2, 3)", "(2, 2)"),
    "more numbers": GOOD.replace("(2, 3)", f"(2, {10**12})"),
    "no numbers": GOOD.replace("(2, 3)", f"(0, {10**30})"),
    "a call": GOOD.replace("(2, 3)", "exit()"),
    "deep brackets": "(" * 60_000,
    "deep signs": GOOD.replace("(2, 3)", "-" * 60_000 + "1"),
    "no text": "\xff\0",
    "nothing": "",
}


@pytest.mark.parametrize("kind", list(HEADERS))
def test_an_array_of_a_malformed_header_is_refused(tmp_path, saved, kind):
    with_mean(tmp_path / "m", saved, GOOD)
    assert is_refused_or_equal(tmp_path / "m", saved)
    assert loaded(tmp_path / "m") is not None
    with_mean(tmp_path / "m", saved, HEADERS[kind])
    assert loaded(tmp_path / "m") is None


@pytest.mark.parametrize("version", [b"\x02\x00", b"\x03\x00", b"\x00\x00", b"\x01\x01"])
def test_an_array_of_another_version_is_refused(tmp_path, saved, version):
    with_mean(tmp_path / "m", saved, GOOD, version)
    assert loaded(tmp_path / "m") is None


def test_arrays_in_the_other_byte_order_are_read(tmp_path, saved):
    header, arrays = parts(saved)
    put(tmp_path / "m", header, {name: a.astype(a.dtype.newbyteorder("S")) for name, a in arrays.items()})
    assert is_refused_or_equal(tmp_path / "m", saved)
    model = loaded(tmp_path / "m")
    assert model.mean.dtype.isnative
    model.partial_fit(X)


TEXTS = {
    "NaN": "NaN",
    "an infinity": "-Infinity",
    "more than doubles hold": "1e999",
    "1,024 bits": str(2**1024 - 1),
    "5,000 digits": "1" * 5000,
    "33 levels": "[" * 33 + "]" * 33,
    "a thousand levels": "[" * 1000 + "]" * 1000,
    "20,000 open brackets": "[" * 20_000,
    "brackets behind a quote": '["\\"",' * 5_000,
    "a key with a control character": '{"\\u001b[2J": 1}',
    "a key that is half a character": '{"\\ud800": 1}',
    "an open text": '"' + '\\"' * 15_000,
}


@pytest.mark.parametrize("kind", list(TEXTS))
@pytest.mark.parametrize("name", ["metadata", "params", "grid"])
def test_a_header_of_numbers_nesting_or_names_that_nobody_saved_is_refused(tmp_path, saved, kind, name):
    header, arrays = parts(saved)
    text = json.dumps(header | {name: {"a": "HERE"}}).replace('"HERE"', TEXTS[kind])
    put(tmp_path / "m", text, arrays)
    with pytest.raises(ValueError, match=r"^path: expected") as info:
        MultiVariateGaussian.load(tmp_path / "m")
    assert not isinstance(info.value.__cause__, RecursionError)
    assert loaded(tmp_path / "m") is None


@pytest.mark.parametrize(
    "value", ["[" * 1000, '"[{' * 1000, "\\" * 999 + '"[['], ids=["[", "quotes", "backslashes"]
)
def test_brackets_within_texts_are_no_nesting(tmp_path, saved, value):
    header, arrays = parts(saved)
    put(tmp_path / "m", header | {"metadata": {"a": value}}, arrays)
    assert loaded(tmp_path / "m").metadata == {"a": value}


def test_loading_a_calibrated_model_takes_the_memory_of_the_file(tmp_path, rng):
    x = frozen(rng.standard_normal((300, 1, 72, 72)))
    MultiVariateGaussian().fit(x).calibrate(x).save(tmp_path / "m")
    del x
    peak, model = peak_of(lambda: MultiVariateGaussian.load(tmp_path / "m"))
    assert model is not None
    assert (tmp_path / "m").stat().st_size > 12 << 20
    assert peak < (tmp_path / "m").stat().st_size + (4 << 20)


def test_an_archive_of_a_million_members_takes_no_memory(tmp_path):
    """Each would be an object ten times its size."""
    entry = b"PK\x01\x02" + bytes(24) + struct.pack("<H", 1) + bytes(16) + b"a"
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 65535, 65535, len(entry) * 10**6, 0, 0)
    (tmp_path / "m").write_bytes(entry * 10**6 + end)
    peak, model = peak_of(lambda: loaded(tmp_path / "m"))
    assert model is None
    assert peak < 4 << 20


def test_members_within_each_other_take_no_more_memory_than_the_file(tmp_path, saved):
    blob, infos = bytes(1 << 20), []
    for i in range(20):
        content, info = array_of(np.frombuffer(blob, np.uint8)), zipfile.ZipInfo(f"a{i:02}.npy")
        info.CRC, info.file_size, info.compress_size = zlib.crc32(content), len(content), len(content)
        blob = info.FileHeader() + content
        infos.insert(0, info)
    with zipfile.ZipFile(tmp_path / "m", "w") as file:
        for i, info in enumerate(infos):
            info.header_offset = i * (len(info.FileHeader()) + 128)
        file.fp.write(blob)
        file.start_dir = len(blob)
        file.filelist += infos
        file.writestr("header.npy", members(saved)["header.npy"])
    del blob, content
    peak, model = peak_of(lambda: loaded(tmp_path / "m"))
    assert model is None
    assert peak < 2 << 20  # not 20


def test_a_long_header_is_refused_before_it_is_read(tmp_path, saved):
    header, arrays = parts(saved)
    put(tmp_path / "m", header | {"metadata": {"a": "x" * 10_000_000}}, arrays)
    peak, model = peak_of(lambda: loaded(tmp_path / "m"))
    assert model is None
    assert peak < 1 << 20
