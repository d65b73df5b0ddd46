"""Saved models, taken apart and put together again: files that `save` did not write."""

import io
import json
import tracemalloc
import zipfile

import numpy as np

from mvgauss import MultiVariateGaussian


def loaded(path):
    """Return the model of a file, or None if it is refused: with a clear error, and with no other."""
    try:
        return MultiVariateGaussian.load(path)
    except ValueError as error:
        assert str(error).startswith("path: expected")  # noqa: PT017
        assert str(error).isprintable()  # noqa: PT017
        return None


def parts(path):
    """Return the header and the arrays of a file."""
    with np.load(path) as file:
        arrays = dict(file)
    return json.loads(arrays.pop("header").tobytes()), arrays


def put(path, header, arrays):
    """Write a file of this header, given as a dict or as text, and of these arrays."""
    text = header if isinstance(header, str) else json.dumps(header)
    with open(path, "wb") as file:
        np.savez(file, header=np.frombuffer(text.encode(), np.uint8), **arrays)


def members(path):
    """Return the bytes of each member of an archive."""
    with zipfile.ZipFile(path) as file:
        return {name: file.read(name) for name in file.namelist()}


def archive(path, pairs):
    """Write an archive of pairs of a name and bytes."""
    with zipfile.ZipFile(path, "w") as file:
        for name, content in pairs:
            file.writestr(name, content)


def npy(header, content, version=b"\x01\x00"):
    """Return a `.npy` file of any text as its header, and any bytes as its array."""
    size = len(header).to_bytes(2 if version == b"\x01\x00" else 4, "little")
    return b"\x93NUMPY" + version + size + header.encode() + content


def array_of(content):
    """Return a `.npy` file of an array."""
    file = io.BytesIO()
    np.save(file, content)
    return file.getvalue()


def peak_of(call):
    """Return the most memory that a call takes beyond that before it, and its answer."""
    tracemalloc.start()
    try:
        answer = call()
        return tracemalloc.get_traced_memory()[1], answer
    finally:
        tracemalloc.stop()
