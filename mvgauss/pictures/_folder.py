"""The folder that a run writes: beside its place, and moved there when all is written."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mvgauss import _arguments

#: Written into each folder, with the names of all files in it.
RECORD = "run.json"
#: Files that systems put into folders which people look at.
_OF_SYSTEMS = {".ds_store", "desktop.ini", "thumbs.db"}


def raise_unless_ours(out: Path) -> None:
    """Refuse a place that is neither free nor a folder that a run wrote, as nothing else is replaced."""
    wanted = "a new folder, or one that an earlier run wrote"
    if not out.exists():
        return
    if not out.is_dir():
        _arguments.raise_error("out", wanted, f"the file {str(out)!r}")
    if Path.cwd().is_relative_to(out.resolve()):
        _arguments.raise_error("out", wanted, f"{str(out)!r}, in which this program runs")
    ours = _recorded(out)
    found = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if not path.is_dir())
    others = [name for name in found if name not in ours and Path(name).name.lower() not in _OF_SYSTEMS]
    if others:
        got = f"{str(out)!r} with {others[0]!r}" + (f" and {len(others) - 1} more" if others[1:] else "")
        _arguments.raise_error("out", wanted, got)


@contextlib.contextmanager
def written(out: Path, record: dict[str, Any]) -> Iterator[Path]:
    """Give a folder to write to, which takes its place if no error came, instead of that of an earlier run.

    The record is written into it at the end.
    """
    raise_unless_ours(out)
    target = out.resolve()
    beside = target.with_name(f".{target.name}-{os.getpid()}")
    try:
        beside.mkdir(parents=True)
    except OSError as error:
        _arguments.raise_error("out", "a folder to write to", error)
    try:
        yield beside
        files = [path.relative_to(beside).as_posix() for path in sorted(beside.rglob("*")) if path.is_file()]
        text = json.dumps({**record, "files": [*files, RECORD]}, indent=1)
        (beside / RECORD).write_text(text + "\n", encoding="utf-8")
        raise_unless_ours(out)
        _replace(target, beside)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _recorded(out: Path) -> set[str]:
    """Return the names of the files that an earlier run wrote into a folder."""
    try:
        names = json.loads((out / RECORD).read_text(encoding="utf-8"))["files"]
        return {str(name) for name in names}
    except (OSError, ValueError, TypeError, KeyError):
        return set()


def _replace(target: Path, new: Path) -> None:
    """Put a new folder where an earlier one may be, which goes away."""
    old = new.with_name(f"{new.name}-old")
    try:
        if target.exists():
            target.rename(old)
        try:
            new.rename(target)
        except OSError:
            if old.exists():
                old.rename(target)
            raise
    except OSError as error:
        wanted = "a folder that can be replaced: close what is open in it"
        _arguments.raise_error("out", wanted, error)
    shutil.rmtree(old, ignore_errors=True)
