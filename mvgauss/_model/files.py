"""Arrays and a header <-> one `.npz` file: no pickle, a version, nothing half-written.

Knows nothing of Gaussians. A file is an uncompressed zip archive of `.npy` members, which `numpy.load`
reads too; the member ``header`` is a JSON text with the name and the version of the format. Reading a file
that somebody else wrote runs no code, ends, takes the memory of the file and a few MB, and gives arrays of
numbers or a `ValueError`.
"""

import contextlib
import hashlib
import io
import itertools
import json
import math
import os
import re
import secrets
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from mvgauss import _arguments
from mvgauss._arguments import Array

FORMAT = "mvgauss.MultiVariateGaussian"
VERSION = 3

_HEADER_BYTES = 1 << 16  #: of the JSON text
_METADATA_BYTES = 48_000  #: of the JSON text of a user's metadata, which are a part of it
_NPY_HEADER_BYTES = 256  #: of a `.npy` header; NumPy writes 118 for arrays of few axes
_PIECE_BYTES = 1 << 17  #: read at once, and thereby the longest list of members
_NESTING = 32  #: of lists and dicts: far from the limit of recursion, wherever they are walked

_ABANDONED_SECONDS = 3600  #: a file that is being written changes more often

_JSON_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"?', re.DOTALL)


class MissingFile(FileNotFoundError, ValueError):
    """There is no file at the path; both kinds of error that people catch."""


def write(path: str | os.PathLike[str], header: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
    """Write beside the target and move into place: a failure leaves the old file as it was.

    The new file gets the permissions, the owner and the group of the old one, or a warning says that the
    system does not allow it; access control lists and extended attributes are not copied.
    """
    target = Path(os.path.realpath(_path(path)))
    text = json.dumps({"format": FORMAT, "version": VERSION, **plain("header", header)}).encode()
    if len(text) > _HEADER_BYTES:
        _arguments.raise_error("header", f"a text of at most {_HEADER_BYTES} bytes", f"{len(text)}")
    if not target.parent.is_dir():
        raise MissingFile(f"path: expected a folder that exists, got {str(target.parent)!r}")
    old = target.stat() if target.exists() else None
    if old is not None and not stat.S_ISREG(old.st_mode):
        _arguments.raise_error("path", "a regular file or none yet", f"{str(target)!r}, another thing")
    prefix = f".mvgauss-{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]}-"
    beside = target.with_name(prefix + secrets.token_hex(8))
    mode = 0o666 if old is None else 0o600  # until it has the group of the old one
    try:
        with open(beside, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            _remove_abandoned(target.parent, prefix, os.fstat(file.fileno()).st_mtime)
            with zipfile.ZipFile(file, "w") as archive:
                for name, array in {"header": np.frombuffer(text, np.uint8), **arrays}.items():
                    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                        array = np.asarray(array, order="C")
                        npy.write_array(member, array, version=(1, 0), allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
        if old is not None:
            _copy_permissions(old, beside, target)
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # Windows opens no folder, and others only those that may be listed
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _remove_abandoned(folder: Path, prefix: str, now: float) -> None:
    """Remove the temporary files that killed savers of a target left: those not written to for an hour.

    The time is that of the file system, which need not be that of this machine.
    """
    entries: list[os.DirEntry[str]] = []
    with contextlib.suppress(OSError):  # a folder that may be written but not listed
        entries += (entry for entry in os.scandir(folder) if entry.name.startswith(prefix))
    for entry in entries:
        with contextlib.suppress(OSError):
            is_file = entry.is_file(follow_symlinks=False)
            if is_file and entry.stat(follow_symlinks=False).st_mtime < now - _ABANDONED_SECONDS:
                os.unlink(entry.path)


def _copy_permissions(old: os.stat_result, path: Path, target: Path) -> None:
    """Give a new file the group, the owner and the mode of the old one, or warn that it cannot have them."""
    for ids in ((-1, old.st_gid), (old.st_uid, -1)):
        with contextlib.suppress(OSError, AttributeError):
            os.chown(path, *ids)
    new, mode = path.stat(), old.st_mode & 0o777
    if new.st_gid != old.st_gid:  # another group may do what everybody may
        mode = mode & ~0o070 | (mode & 0o007) << 3
    if new.st_mode & 0o777 != mode:
        path.chmod(mode)
    before, after = (f"user {status.st_uid} and group {status.st_gid}" for status in (old, new))
    if before != after:
        message = f"path: expected to keep {before} as the owners of {str(target)!r}, got {after}"
        _arguments.warn(message, UserWarning)


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return the header and the arrays that `write` wrote."""
    name = _path(path)
    with _opened(name) as file:
        _raise_if_special(os.fstat(file.fileno()), name)
        try:  # whatever goes wrong, and there are many ways, means the same
            archive = zipfile.ZipFile(file)
            members = _members(archive, os.fstat(file.fileno()).st_size)
            header = _header(archive, members.pop("header"))
            version = header.pop("version", None)
            known = type(version) is int and version == VERSION
            arrays = {key: _array(archive, info) for key, info in members.items()} if known else {}
        except MemoryError:
            raise
        except Exception as error:
            raise ValueError(
                f"path: expected a file written by MultiVariateGaussian.save, got {name!r}, which is "
                f"damaged or something else: {str(error)!r}"
            ) from error
    if not known:
        got = f"version {_arguments.briefly(version)} in {name!r}"
        hint = "fit the model again and save it, or load it with the version of mvgauss that wrote it"
        _arguments.raise_error("path", f"a file of format version {VERSION}", got, hint=hint)
    return header, arrays


class _File(io.BufferedReader):
    """A file of which at most a piece is read at once, so that no list of members takes much memory."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(_PIECE_BYTES if size is None or not 0 <= size <= _PIECE_BYTES else size)


def _opened(name: str) -> _File:
    """Open a regular file, and nothing that would wait for somebody or never end."""
    try:
        _raise_if_special(os.stat(name), name)
        at_once = getattr(os, "O_NONBLOCK", 0)  # also a pipe without a writer
        return _File(io.FileIO(name, opener=lambda path, flags: os.open(path, flags | at_once)))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingFile(f"path: expected a saved model, got no file at {name!r}") from error


def _raise_if_special(status: os.stat_result, name: str) -> None:
    if not stat.S_ISREG(status.st_mode):
        got = f"{name!r}, which is not a regular file"
        _arguments.raise_error("path", "a file written by MultiVariateGaussian.save", got)


def _members(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    """Return the members by the names of their arrays; together they are no larger than the file."""
    members: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name = info.orig_filename.removesuffix(".npy")
        if f"{name}.npy" != info.orig_filename or name in members:
            raise ValueError(f"the member {info.orig_filename!r} has no name of an array, or that of another")
        if info.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"the member {name!r} is compressed")
        members[name] = info
    if sum(info.file_size for info in members.values()) > size:
        raise ValueError("its members are larger than it is")
    return members


def _header(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> dict[str, Any]:
    """Return the header of a file of this format, of any version."""
    if info.file_size > _HEADER_BYTES + _NPY_HEADER_BYTES:
        raise ValueError("its header is too long")
    text = _array(archive, info).tobytes()
    brackets = _JSON_STRING.sub(b"", text)
    if max(itertools.accumulate((b in b"[{") - (b in b"]}") for b in brackets), default=0) > _NESTING:
        raise ValueError("its header is nested too deep")
    header = json.loads(text.decode())
    if not isinstance(header, dict) or header.pop("format", None) != FORMAT:
        raise ValueError("its header is another one")
    result: dict[str, Any] = plain("header", header)
    return result


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Array:
    """Read an array of numbers after its header was checked; `zipfile` checks the sum of its bytes."""
    with archive.open(info) as member:
        if npy.read_magic(member) != (1, 0):  # headers of later versions may be as long as the file
            raise ValueError(f"the member {info.filename!r} is of another version of .npy")
        shape, is_fortran, dtype = npy.read_array_header_1_0(member, max_header_size=_NPY_HEADER_BYTES)
        if dtype.kind not in "iuf" or is_fortran:
            raise ValueError(f"the member {info.filename!r} is no array of numbers in C order")
        if member.tell() + math.prod(shape) * dtype.itemsize != info.file_size:
            raise ValueError(f"the member {info.filename!r} has another size than its array")
    with archive.open(info) as member:  # again: to seek in a member may turn the check of its sum off
        array: Array = npy.read_array(member, allow_pickle=False, max_header_size=_NPY_HEADER_BYTES)
    return array if dtype.isnative else array.byteswap(inplace=True).view(dtype.newbyteorder("="))


def plain_metadata(value: object) -> dict[str, Any]:
    """Return a user's mapping as a dict of plain values, which shares nothing with it."""
    if not isinstance(value, Mapping):
        _arguments.raise_error("metadata", "a dict", f"{_arguments.briefly(value)}", TypeError)
    result: dict[str, Any] = plain("metadata", value, _NESTING - 1)  # one level is that of the header
    size = len(json.dumps(result))
    if size > _METADATA_BYTES:
        _arguments.raise_error("metadata", f"at most {_METADATA_BYTES} bytes as JSON", f"{size}")
    return result


def plain(name: str, value: object, nesting: int = _NESTING) -> Any:
    """Return None, a truth value, a number, a text, or lists and dicts of these, free of NumPy's kinds."""
    if isinstance(value, (np.bool_, np.integer)):
        value = value.item()
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        if value.bit_length() > 1023:  # of larger ones there may be no double
            _arguments.raise_error(name, "an integer of at most 1023 bits", f"one of {value.bit_length()}")
        return int(value)
    if isinstance(value, (float, np.floating)):
        return _arguments.number(name, value)
    if isinstance(value, str):
        return str.__str__(value)
    if not isinstance(value, (list, tuple, Mapping)):
        wanted = "None, True or False, a number, text, or lists and dicts of these"
        got = f"{_arguments.briefly(value)} of type {type(value).__name__}"
        hint = "see .tolist()" if isinstance(value, np.ndarray) else ""
        _arguments.raise_error(name, wanted, got, TypeError, hint)
    if not nesting:
        wanted = f"lists and dicts that are nested at most {_NESTING - 1} deep"
        _arguments.raise_error(name.partition("[")[0], wanted, "deeper ones")
    if not isinstance(value, Mapping):
        return [plain(f"{name}[{i}]", item, nesting - 1) for i, item in enumerate(value)]
    for key in value:
        if not isinstance(key, str) or not key.isprintable():
            error = ValueError if isinstance(key, str) else TypeError
            _arguments.raise_error(name, "keys that are printable text", _arguments.briefly(key), error)
    return {
        str.__str__(key): plain(f"{name}[{_arguments.briefly(key)}]", item, nesting - 1)
        for key, item in value.items()
    }


def _path(path: str | os.PathLike[str]) -> str:
    try:
        return os.fsdecode(path)
    except TypeError:
        _arguments.raise_error("path", "a path", f"{_arguments.briefly(path)}", TypeError)
