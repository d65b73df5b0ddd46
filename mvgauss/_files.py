"""Arrays and a header <-> one `.npz` file: no pickle, a version, nothing half-written.

Knows nothing of Gaussians. A file is an uncompressed zip archive of `.npy` members, so `numpy.load`
reads it too; the member ``header`` is a JSON text with the format's name and version.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from mvgauss import _checks
from mvgauss._checks import Array

FORMAT = "mvgauss.MultiVariateGaussian"
VERSION = 2

#: A member's `.npy` header, and the JSON text, are refused when longer: neither needs to be.
_HEADER_BYTES = 1 << 16


class MissingFile(FileNotFoundError, ValueError):
    """There is no file at the path; both kinds of error that people catch."""


def write(path: str | os.PathLike[str], header: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
    """Write beside the target and move into place: a failure leaves the old file as it was."""
    target = Path(os.path.realpath(_path(path)))
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    members = sorted(arrays)
    text = json.dumps({"format": FORMAT, "version": VERSION, "members": members, **header}, default=_plain)
    if target.exists() and not target.is_file():
        _checks.refuse("path", "a regular file or none yet", f"{str(target)!r}, which is something else")
    if not target.parent.is_dir():
        raise MissingFile(f"path: expected a folder that exists, got {str(target.parent)!r}")
    with tempfile.TemporaryDirectory(prefix=".mvgauss-", dir=target.parent) as folder:
        beside = Path(folder) / "model"
        with beside.open("xb") as file:
            np.savez(file, header=np.frombuffer(text.encode(), np.uint8), **arrays)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        beside.replace(target)


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Array]]:
    """Read what `write` wrote; anything else is a `ValueError` that says what is wrong."""
    name = _path(path)
    try:
        file = Path(name).open("rb")  # noqa: SIM115, closed below: only opening may miss the file
    except FileNotFoundError as error:
        raise MissingFile(f"path: expected a saved model, got no file at {name!r}") from error
    with file:
        try:
            arrays = _members(file)
        except MemoryError:
            raise
        except Exception as error:  # zipfile has many ways to fail
            raise ValueError(
                f"path: expected a file written by MultiVariateGaussian.save, got {name!r}, which is "
                f"damaged or something else: {error}"
            ) from error
    header = _header(arrays.pop("header", None), name)
    if sorted(arrays) != header.pop("members", None):
        _checks.refuse("path", "a whole file", f"{name!r}, which has other members than were saved")
    return 2, header, arrays


def _members(file: IO[bytes]) -> dict[str, Array]:
    """Read the arrays of an archive; none takes more memory than the file has bytes."""
    arrays: dict[str, Array] = {}
    left = os.fstat(file.fileno()).st_size
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            left -= info.file_size
            name = info.filename.removesuffix(".npy")
            if info.compress_type != zipfile.ZIP_STORED or left < 0 or name in arrays:
                raise ValueError(f"the member {info.filename!r} is not stored plainly, once")
            with archive.open(info) as member:
                arrays[name] = _array(member, info)
    return arrays


def _array(member: IO[bytes], info: zipfile.ZipInfo) -> Array:
    """Read one `.npy` array; reading to its end checks its sum."""
    if np.lib.format.read_magic(member) != (1, 0):
        raise ValueError(f"the member {info.filename!r} is no array of .npy version 1.0")
    try:
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(member, max_header_size=_HEADER_BYTES)
    except MemoryError as error:  # the parser's, of a header nested too deeply
        raise ValueError(f"the member {info.filename!r} has no header of an array") from error
    size = math.prod(shape) * dtype.itemsize
    if dtype.kind not in "iuf" or fortran or not dtype.isnative or member.tell() + size != info.file_size:
        raise ValueError(f"the member {info.filename!r} is no plain array of its size")
    array = np.empty(shape, dtype)
    rest = array.reshape(-1).view(np.uint8).data
    while rest:
        count = member.readinto(rest)  # type: ignore[attr-defined]
        if not count:
            raise ValueError(f"the member {info.filename!r} ends too early")
        rest = rest[count:]
    if member.read(1):
        raise ValueError(f"the member {info.filename!r} goes on")
    return array


def _header(member: Array | None, name: str) -> dict[str, Any]:
    """Return the header; refuse other formats and later versions."""
    header: Any = None
    if member is not None and member.dtype == np.uint8 and member.nbytes <= _HEADER_BYTES:
        with contextlib.suppress(ValueError, RecursionError):
            header = json.loads(member.tobytes())
    if not isinstance(header, dict) or header.pop("format", None) != FORMAT:
        _checks.refuse("path", "a file written by MultiVariateGaussian.save", f"{name!r}")
    version = header.pop("version", None)
    if version != VERSION:
        _checks.refuse(
            "path",
            f"a file of format version {VERSION}",
            f"version {version!r} in {name!r}",
            hint="a newer mvgauss may read it",
        )
    return header


def _plain(value: object) -> object:
    """Return a NumPy scalar as a plain one."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"params: expected plain values that can be saved, got {_checks.briefly(value)}")


def _path(path: str | os.PathLike[str]) -> str:
    """Return a path as text."""
    try:
        return os.fsdecode(path)
    except TypeError:
        _checks.refuse("path", "a path", f"{_checks.briefly(path)}", TypeError)
