"""Whatever lies at a path, reading it ends, takes little memory, and gives plain arrays or a ValueError."""

import contextlib
import io
import json
import os
import socket
import struct
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvgauss import MultiVariateGaussian, _files

posix = pytest.mark.skipif(os.name != "posix", reason="there are no such files here")


def special(kind, folder):
    """Return a path at which there is something that is no regular file."""
    if kind == "folder":
        return folder
    if kind in ("/dev/zero", "/dev/stdin"):
        return Path(kind)
    if kind == "pipe":
        os.mkfifo(folder / "m")
    elif kind == "link to a pipe":
        os.mkfifo(folder / "pipe")
        (folder / "m").symlink_to("pipe")
    else:
        with socket.socket(socket.AF_UNIX) as s, contextlib.chdir(folder):  # their names are short
            s.bind("m")
    return folder / "m"


@posix
@pytest.mark.parametrize("kind", ["folder", "pipe", "link to a pipe", "/dev/zero", "socket"])
def test_what_is_no_file_is_refused_at_once(tmp_path, kind):
    path = special(kind, tmp_path)
    with pytest.raises(ValueError, match=r"path: expected a file written by .*, got .* not a regular file"):
        MultiVariateGaussian.load(path)


@posix
def test_a_pipe_that_takes_the_place_of_a_file_while_it_is_opened_is_refused(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "m")
    (tmp_path / "file").touch()
    looks = os.stat
    monkeypatch.setattr("os.stat", lambda path: looks(tmp_path / "file"))
    with pytest.raises(ValueError, match="which is not a regular file"):
        MultiVariateGaussian.load(tmp_path / "m")


def plain_file(**header):
    """Return the bytes of a file of the format, with other things in its header."""
    text = json.dumps({"format": _files.FORMAT, "version": 2, "members": ["mean"], **header})
    file = io.BytesIO()
    np.savez(file, header=np.frombuffer(text.encode(), np.uint8), mean=np.arange(6.0).reshape(2, 3))
    return file.getvalue()


PLAIN = plain_file()


def read(content, folder):
    """Read a file of these bytes; anything but a `ValueError` of ours is an error."""
    (folder / "m").write_bytes(content)
    try:
        return _files.read(folder / "m")
    except ValueError as error:
        if str(error).startswith("path: expected"):
            return None
        raise


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


edits = st.tuples(st.integers(0, len(PLAIN)), st.integers(0, 12), st.binary(max_size=12))


@given(st.lists(edits, min_size=1, max_size=4))
def test_a_file_edited_anywhere_is_refused_or_the_same(folder, edits):
    content = PLAIN
    for start, lost, put in edits:
        content = content[:start] + put + content[start + lost :]
    got = read(content, folder)
    if got is not None:
        assert got[:2] == (2, {})
        np.testing.assert_array_equal(got[2]["mean"], np.arange(6.0).reshape(2, 3))


def archive(*members):
    """Return an archive of (name, bytes)."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        for name, content in members:
            made.writestr(name, content)
    return file.getvalue()


def members(content):
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        return {name: file.read(name) for name in file.namelist()}


def npy(header):
    """Return a `.npy` file of 6 numbers with any text as its header."""
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + np.arange(6.0).tobytes()


descriptions = st.sampled_from(
    [
        "<f8",
        ">f8",
        "|u1",
        "<f9",
        "<c16",
        "|O",
        "<U6",
        "f4,(",
        "<M8[s]",
        "|V8",
        "<f8,<f8",
        "[('a', '<f8')]",
        "",
    ]
)
shapes = st.one_of(
    st.sampled_from(
        [
            "(2, 3)",
            "(6,)",
            "(6)",
            "6",
            "()",
            "(-2, -3)",
            "(2, 3, )",
            "[2, 3]",
            "(True, 6)",
            "(2.0, 3)",
            "(0x6,)",
        ]
    ),
    st.lists(st.sampled_from([0, 1, 2, 3, 6, 10**9, 2**63, 10**18, 10**30]), max_size=12).map(
        lambda shape: str(tuple(shape))
    ),
    st.integers(1, 3000).map(lambda n: "(" * n + "6" + ",)" * n),
)


@given(
    descriptions, shapes, st.sampled_from(["False", "True", "0", "None"]), st.sampled_from(["\n", "", " "])
)
def test_a_forged_array_is_refused_or_has_its_numbers(folder, descr, shape, order, end):
    header = f"{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}{end}"
    got = read(archive(*{**members(PLAIN), "mean.npy": npy(header.encode())}.items()), folder)
    if got is not None:
        mean = got[2]["mean"]
        assert mean.dtype.isnative
        np.testing.assert_array_equal(mean.reshape(-1).view(float), np.arange(6.0))


@given(st.binary(max_size=80))
def test_an_array_with_any_header_is_refused(folder, header):
    assert read(archive(*{**members(PLAIN), "mean.npy": npy(header)}.items()), folder) is None


values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=9,
)


@given(values)
def test_a_header_with_any_value_is_read_or_refused(folder, value):
    for name in ("format", "version", "members", "more"):
        got = read(plain_file(**{name: value}), folder)
        if name == "more" and got is not None:
            assert got[1] == {"more": value}
        elif got is not None:
            assert value in (1, 2, ["mean"])


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "1" * 5000, "1" * 400])
def test_numbers_that_are_none_of_json_are_refused(tmp_path, number):
    text = json.dumps({"format": _files.FORMAT, "version": 2, "members": [], "more": 0})
    header = np.frombuffer(text.replace('"more": 0', f'"more": [{number}]').encode(), np.uint8)
    file = io.BytesIO()
    np.savez(file, header=header)
    assert read(file.getvalue(), tmp_path) is None


@pytest.mark.parametrize("name", ["/mean.npy", "../mean.npy", "a/mean.npy", "C:mean.npy", "mean", "MEAN.npy"])
def test_a_member_of_another_name_is_refused(tmp_path, name):
    parts = members(PLAIN)
    assert read(archive(("header.npy", parts["header.npy"]), (name, parts["mean.npy"])), tmp_path) is None


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", ["header.npy", "mean.npy"])
def test_a_member_that_is_there_twice_is_refused(tmp_path, name):
    parts = members(PLAIN)
    assert read(archive(*parts.items(), (name, parts[name])), tmp_path) is None


def peak_of(call):
    """Return the most memory that a call has taken, and its answer."""
    tracemalloc.start()
    try:
        answer = call()
        return tracemalloc.get_traced_memory()[1], answer
    finally:
        tracemalloc.stop()


def test_reading_takes_the_memory_of_the_file(tmp_path):
    arrays = {"mean": np.ones((1 << 20, 5)), "factor": np.zeros(1 << 21, np.float32)}
    _files.write(tmp_path / "m", {}, arrays)
    peak, got = peak_of(lambda: _files.read(tmp_path / "m"))
    assert peak < (tmp_path / "m").stat().st_size + (1 << 20)
    assert all((got[2][name] == a).all() for name, a in arrays.items())


def test_an_archive_of_something_else_is_refused_before_its_arrays_are_read(tmp_path):
    np.savez(tmp_path / "m.npz", mean=np.ones(1 << 20))
    peak, got = peak_of(lambda: read((tmp_path / "m.npz").read_bytes(), tmp_path))
    assert got is None
    assert peak < 9 << 20  # the 8 MB that were read to write them


def test_an_archive_of_a_million_members_takes_no_memory(tmp_path):
    """Each would be an object ten times its size."""
    entry = b"PK\x01\x02" + bytes(24) + struct.pack("<H", 1) + bytes(16) + b"a"
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 65535, 65535, len(entry) * 10**6, 0, 0)
    (tmp_path / "m").write_bytes(entry * 10**6 + end)

    def refused():
        with pytest.raises(ValueError, match="path: expected"):
            _files.read(tmp_path / "m")

    assert peak_of(refused)[0] < 4 << 20


def directory(entries):
    """Return the list of members that ends an archive, of (name, content, size, offset)."""
    out = b""
    for name, content, size, offset in entries:
        sizes = zlib.crc32(content), len(content), size, len(name)
        out += b"PK\x01\x02" + struct.pack("<2H8x3LH12xL", 20, 20, *sizes, offset) + name
    count = len(entries)
    start = entries[-1][-1] + 30 + len(entries[-1][0]) + len(entries[-1][1])
    return out + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, count, count, len(out), start, 0)


def member(name, content):
    """Return a member of an archive, as it stands before the list."""
    return b"PK\x03\x04" + struct.pack("<H20xHH", 20, len(name), 0) + name + content


def header_of(names):
    """Return the member that says which arrays there are."""
    text = json.dumps({"format": _files.FORMAT, "version": 2, "members": names}).encode()
    return array_of(text)


def array_of(content):
    """Return a `.npy` file of these bytes."""
    file = io.BytesIO()
    np.save(file, np.frombuffer(content, np.uint8))
    return file.getvalue()


def within_each_other(count, size):
    """Return an archive whose members are each the bytes of the next one and a few more."""
    names = [f"a{i}" for i in range(count)]
    blob, contents = bytes(size), []
    for name in reversed(names):
        contents.insert(0, array_of(blob))
        blob = member(f"{name}.npy".encode(), contents[0])
    entries, offset = [], 0
    for name, content in zip(names, contents, strict=True):
        entries.append((f"{name}.npy".encode(), content, len(content), offset))
        offset += 30 + len(name) + 4 + 128
    header = header_of(names)
    entries.append((b"header.npy", header, len(header), len(blob)))
    return blob + member(b"header.npy", header) + directory(entries)


def peak_of_reading(content, folder):
    """Return the most memory that reading these bytes takes, and what is read."""
    (folder / "m").write_bytes(content)
    del content

    def reads():
        try:
            return _files.read(folder / "m")
        except ValueError:
            return None

    return peak_of(reads)


def test_members_within_each_other_take_no_more_memory_than_the_file(tmp_path):
    assert peak_of_reading(within_each_other(1, 1 << 20), tmp_path)[1] is not None
    peak, got = peak_of_reading(within_each_other(20, 1 << 20), tmp_path)
    assert got is None
    assert peak < 2 << 20  # not 20


def test_a_member_that_is_said_to_be_longer_than_it_is_is_refused(tmp_path):
    header, short = header_of(["mean"]), npy(b"{'descr': '<f8', 'fortran_order': False, 'shape': (9,), }\n")
    for size in (len(short) + 24, len(short), 1 << 31):
        first = member(b"mean.npy", short)
        entries = [(b"mean.npy", short, size, 0), (b"header.npy", header, len(header), len(first))]
        assert read(first + member(b"header.npy", header) + directory(entries), tmp_path) is None


def test_a_long_text_is_refused_before_it_is_read(tmp_path):
    text = json.dumps({"format": _files.FORMAT, "version": 2, "members": [], "more": "x" * 10_000_000})
    peak, got = peak_of_reading(archive(("header.npy", array_of(text.encode()))), tmp_path)
    assert got is None
    assert peak < 1 << 20
