"""Arrays and a header <-> one `.npz` file: no pickle, a version, nothing half-written.

Knows nothing of Gaussians. A file is an uncompressed zip archive of `.npy` members, so `numpy.load`
reads it too; the member ``header`` is a JSON text with the format's name and version. Whatever is in a
file that others made, reading it runs nothing, ends, takes no more memory than the file has bytes and a
few MB, and gives plain arrays or a `ValueError`.
"""

import contextlib
import hashlib
import io
import json
import math
import os
import re
import secrets
import stat
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mvgauss import _arguments
from mvgauss._arguments import Array

try:
    import fcntl
except ImportError:  # Windows, where an open file can be neither moved nor removed
    fcntl = None  # type: ignore[assignment]

FORMAT = "mvgauss.MultiVariateGaussian"
VERSION = 3
READABLE = (3,)

#: The longest JSON text, and how much of it a user's metadata may take.
_HEADER_BYTES = 1 << 16
_METADATA_BYTES = 48_000

#: The most that is read at once: arrays go in such pieces to where they stay, and an archive whose list
#: of members is longer is none of ours.
_PIECE_BYTES = 1 << 17

#: How a `.npy` member starts, as NumPy writes it for a plain array.
_NPY = re.compile(
    rb"(?s:\x93NUMPY\x01\x00..)\{'descr': '([<>|][iuf]\d)', 'fortran_order': False, "
    rb"'shape': \((|\d{1,18},|\d{1,18}(?:, \d{1,18}){1,7})\), \} *\n"
)

_AT_ONCE = getattr(os, "O_NONBLOCK", 0)  #: opens what would wait for a partner without one


class MissingFile(FileNotFoundError, ValueError):
    """There is no file at the path; both kinds of error that people catch."""


def write(path: str | os.PathLike[str], header: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
    """Write beside the target and move into place: a failure leaves the old file as it was."""
    target = Path(os.path.realpath(_path(path)))
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    values = {name: plain(name, value) for name, value in header.items()}
    text = json.dumps({"format": FORMAT, "version": VERSION, "members": sorted(arrays), **values})
    if len(text) > _HEADER_BYTES:
        _arguments.raise_error("header", f"a text of at most {_HEADER_BYTES} bytes", f"{len(text)}")
    if target.exists() and not target.is_file():
        _arguments.raise_error(
            "path", "a regular file or none yet", f"{str(target)!r}, which is something else"
        )
    if not target.parent.is_dir():
        raise MissingFile(f"path: expected a folder that exists, got {str(target.parent)!r}")
    mode = target.stat().st_mode & 0o777 if target.exists() else None
    prefix = f".mvgauss-{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]}-"
    _remove_abandoned(target.parent, prefix)
    beside = target.with_name(prefix + secrets.token_hex(8))
    new = 0o666 if mode is None else mode
    with contextlib.ExitStack() as stack:
        folder = -1  # Windows opens none: to sync this is an error that is passed over
        if os.name == "posix":
            folder = os.open(target.parent, os.O_RDONLY)
            stack.callback(os.close, folder)
        stack.callback(beside.unlink, missing_ok=True)
        file = stack.enter_context(open(beside, "xb", opener=lambda path, flags: os.open(path, flags, new)))
        with contextlib.suppress(OSError, AttributeError):  # there are systems without such locks
            fcntl.flock(file, fcntl.LOCK_EX)
        np.savez(file, header=np.frombuffer(text.encode(), np.uint8), **arrays)  # type: ignore[arg-type]
        file.flush()
        os.fsync(file.fileno())
        if mode is not None:
            beside.chmod(mode)  # what the umask took from it
        if fcntl is None:
            file.close()
        beside.replace(target)
        with contextlib.suppress(OSError):  # the file is in place, whether a folder can be synced or not
            os.fsync(folder)


def _remove_abandoned(folder: Path, prefix: str) -> None:
    """Remove what savers of the same target left behind that were killed.

    A saver holds a lock on its file from before the first byte until the file has moved, and the system
    releases it when the saver dies, however it dies: what is not empty and can be locked has no saver.
    (Process numbers are used again, and mean nothing to other machines and containers; the file of a
    slow saver may be of any age.) What is empty, or where there are no such locks, is left for a day.
    """
    for path in folder.glob(f"{prefix}*"):
        with contextlib.suppress(OSError):
            with path.open("rb") as file:
                status = os.fstat(file.fileno())
                if fcntl is not None and status.st_size:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # an error where another has it
                elif time.time() - status.st_mtime < 86_400:
                    continue
            path.unlink()


def read(path: str | os.PathLike[str]) -> tuple[int, dict[str, Any], dict[str, Array]]:
    """Return the version, the header and the arrays that `write` wrote, or an earlier version of it."""
    name = _path(path)
    with _opened(name) as file:
        _raise_if_special(os.fstat(file.fileno()), name)
        try:  # whatever goes wrong, and there are many ways, means the same
            archive = zipfile.ZipFile(file)
            header = _header(archive)
            version, members = header.pop("version", None), header.pop("members", None)
            known = type(version) is int and version in READABLE
            arrays = _arrays(archive, members, os.fstat(file.fileno()).st_size) if known else {}
        except MemoryError:
            raise
        except Exception as error:
            raise ValueError(
                f"path: expected a file written by MultiVariateGaussian.save, got {name!r}, which is "
                f"damaged or something else: {error}"
            ) from error
    if not known:
        wanted = f"a file of format version {' or '.join(map(str, READABLE))}"
        got, hint = f"version {_arguments.briefly(version)} in {name!r}", "a newer mvgauss may read it"
        _arguments.raise_error("path", wanted, got, hint=hint)
    return header, arrays


class _File(io.BufferedReader):
    """A file of which little is read at once, whoever asks for more."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(_PIECE_BYTES if size is None or not 0 <= size <= _PIECE_BYTES else size)


def _opened(name: str) -> _File:
    """Open a file, and nothing that would wait for somebody or never end."""
    try:
        _raise_if_special(os.stat(name), name)
        return _File(io.FileIO(name, opener=lambda path, flags: os.open(path, flags | _AT_ONCE)))
    except FileNotFoundError as error:
        raise MissingFile(f"path: expected a saved model, got no file at {name!r}") from error


def _raise_if_special(status: os.stat_result, name: str) -> None:
    if not stat.S_ISREG(status.st_mode):
        got = f"{name!r}, which is not a regular file"
        _arguments.raise_error("path", "a file written by MultiVariateGaussian.save", got)


def _header(archive: zipfile.ZipFile) -> dict[str, Any]:
    """Return the header of a file of ours, of any version."""
    text = _array(archive, archive.getinfo("header.npy"), _HEADER_BYTES)
    header = json.loads(text.tobytes().decode())
    if not isinstance(header, dict) or header.pop("format", None) != FORMAT:
        raise ValueError("its header is another one")
    return {name: plain(name, value) for name, value in header.items()}


def _arrays(archive: zipfile.ZipFile, members: Any, size: int) -> dict[str, Array]:
    """Return the arrays, which take no more memory together than the file has bytes."""
    infos = {name: archive.getinfo(f"{name}.npy") for name in members}
    if sorted(archive.namelist()) != sorted(["header.npy", *(info.filename for info in infos.values())]):
        raise ValueError("it has other members than were saved")
    if sum(info.file_size for info in infos.values()) > size:
        raise ValueError("its members are larger than it is")
    return {name: _array(archive, info, size) for name, info in infos.items()}


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, most: int) -> Array:
    """Read one `.npy` array of at most so many bytes; `zipfile` checks its sum with the last of them."""
    if info.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"the member {info.filename!r} is compressed")
    with archive.open(info) as member:
        start = member.read(10)
        match = _NPY.fullmatch(start + member.read(int.from_bytes(start[8:], "little")))
        if match is None:
            raise ValueError(f"the member {info.filename!r} is no plain array")
        dtype = np.dtype(match[1].decode())
        shape = tuple(int(n) for n in re.findall(rb"\d+", match[2]))
        size = math.prod(shape) * dtype.itemsize
        if not dtype.isnative or size > most or member.tell() + size != info.file_size:
            raise ValueError(f"the member {info.filename!r} is no array of its size, and of this machine")
        array = np.empty(shape, dtype)
        rest = array.reshape(-1).view(np.uint8).data
        while rest:
            count = member.readinto(rest[:_PIECE_BYTES])  # type: ignore[attr-defined]
            if not count:
                raise ValueError(f"the member {info.filename!r} ends too early")
            rest = rest[count:]
    return array


def plain_metadata(value: object) -> dict[str, Any]:
    """Return a user's mapping as a dict of plain values, which shares nothing with it."""
    if not isinstance(value, Mapping):
        _arguments.raise_error("metadata", "a dict", f"{_arguments.briefly(value)}", TypeError)
    try:
        result: dict[str, Any] = plain("metadata", value)
        size = len(json.dumps(result))
    except RecursionError:
        got = "some within themselves, or as good as that"
        _arguments.raise_error("metadata", "lists and dicts that end", got)
    if size > _METADATA_BYTES:
        _arguments.raise_error("metadata", f"at most {_METADATA_BYTES} bytes as JSON", f"{size}")
    return result


def plain(name: str, value: object) -> Any:
    """Return None, a truth value, a number, a text, or lists and dicts of these, free of NumPy's kinds."""
    if isinstance(value, (np.bool_, np.integer)):
        value = value.item()
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        if value.bit_length() > 1024:
            _arguments.raise_error(name, "an integer of at most 1024 bits", f"one of {value.bit_length()}")
        return int(value)
    if isinstance(value, (float, np.floating)):
        return _arguments.number(name, value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, (list, tuple)):
        return [plain(f"{name}[{i}]", item) for i, item in enumerate(value)]
    if not isinstance(value, Mapping):
        wanted = "None, True or False, a number, text, or lists and dicts of these"
        got = f"{_arguments.briefly(value)} of type {type(value).__name__}"
        hint = "see .tolist()" if isinstance(value, np.ndarray) else ""
        _arguments.raise_error(name, wanted, got, TypeError, hint)
    for key in value:
        if not isinstance(key, str):
            _arguments.raise_error(name, "keys that are text", f"{_arguments.briefly(key)}", TypeError)
    return {str.__str__(key): plain(f"{name}[{key!r}]", item) for key, item in value.items()}


def _path(path: str | os.PathLike[str]) -> str:
    try:
        return os.fsdecode(path)
    except TypeError:
        _arguments.raise_error("path", "a path", f"{_arguments.briefly(path)}", TypeError)
