"""Arrays and a header <-> one `.npz` file: no pickle, a version, nothing half-written.

Knows nothing of Gaussians. A file is an uncompressed zip archive of `.npy` members, so `numpy.load`
reads it too; the member ``header`` is a JSON text with the format's name and version.
"""

from __future__ import annotations

import contextlib
import json
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
VERSION = 1

#: A member's `.npy` header, and the JSON text, are refused when longer: neither needs to be.
_HEADER_BYTES = 1 << 16


class MissingFile(FileNotFoundError, ValueError):
    """There is no file at the path; both kinds of error that people catch."""


def write(path: str | os.PathLike[str], header: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
    """Write beside the target and move into place: a failure leaves the old file as it was."""
    target = Path(os.path.realpath(_path(path)))
    text = json.dumps({"format": FORMAT, "version": VERSION, **header})
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder:
        beside = Path(folder) / target.name
        with beside.open("xb") as file:
            np.savez(file, header=np.frombuffer(text.encode(), np.uint8), **arrays)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        beside.replace(target)


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Array]]:
    """Read what `write` wrote; anything else is a `ValueError` that says what is wrong."""
    name = Path(_path(path))
    try:
        with name.open("rb") as file:
            arrays = _members(file)
    except FileNotFoundError as error:
        raise MissingFile(f"path: expected a saved model, got no file at {str(name)!r}") from error
    except OSError:
        raise
    except Exception as error:
        raise ValueError(
            f"path: expected a file written by MultiVariateGaussian.save, got {str(name)!r}, "
            f"which is damaged or something else: {error}"
        ) from error
    header = _header(arrays.pop("header", None), str(name))
    return header, arrays


def _members(file: IO[bytes]) -> dict[str, Array]:
    """Read the arrays of an archive, none larger than the bytes it really has."""
    arrays = {}
    size = os.fstat(file.fileno()).st_size
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            if info.compress_type != zipfile.ZIP_STORED or info.file_size > size:
                raise ValueError(f"the member {info.filename!r} is not stored plainly")
            with archive.open(info) as member:
                version = np.lib.format.read_magic(member)
                if version != (1, 0):
                    raise ValueError(f"the member {info.filename!r} has .npy version {version}")
                shape, fortran, dtype = np.lib.format.read_array_header_1_0(
                    member, max_header_size=_HEADER_BYTES
                )
                data = member.read()
            if dtype.hasobject or dtype.kind not in "iuf" or fortran:
                raise ValueError(f"the member {info.filename!r} has dtype {dtype}")
            # frombuffer makes no array but of the bytes that are there
            array = np.frombuffer(data, dtype).reshape(shape)
            arrays[info.filename.removesuffix(".npy")] = array.copy()
    return arrays


def _header(member: Array | None, name: str) -> dict[str, Any]:
    """Return the header; refuse other formats and later versions."""
    header: Any = None
    if member is not None and member.dtype == np.uint8 and member.nbytes <= _HEADER_BYTES:
        with contextlib.suppress(ValueError):
            header = json.loads(member.tobytes())
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        _checks.refuse("path", "a file written by MultiVariateGaussian.save", f"{name!r}")
    if header.get("version") != VERSION:
        _checks.refuse(
            "path",
            f"a file of format version {VERSION}",
            f"version {header.get('version')!r} in {name!r}",
            hint="a newer mvgauss may read it",
        )
    return header


def _path(path: str | os.PathLike[str]) -> str:
    """Return a path as text."""
    try:
        return os.fsdecode(path)
    except TypeError:
        _checks.refuse("path", "a path", f"{_checks.briefly(path)}", TypeError)
