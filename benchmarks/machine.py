"""The machine: what it is, and how fast it copies and multiplies."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from importlib.util import find_spec
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_info

PACKAGES = ("mvgauss", "numpy", "scipy", "torch", "scikit-learn", "array-api-extra")


class Limits(NamedTuple):
    """What the machine can do at best, on all the CPUs that this process may use."""

    copy: float  #: bytes per second, those read and those written
    gemm: dict[str, float]  #: flops per second of a matrix product, by dtype


def plain_environment() -> dict[str, str]:
    """Return the environment without settings of OpenBLAS, which may name the kernels of another machine."""
    return {name: value for name, value in os.environ.items() if not name.startswith("OPENBLAS_")}


def cpus() -> int:
    """Return the number of CPUs that this process may use, and of threads on every side."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not every system tells the affinity
        return os.cpu_count() or 1


def missing(module: str) -> bool:
    """Return whether a module is not installed."""
    try:
        return find_spec(module) is None
    except ModuleNotFoundError:  # the package that it is in
        return True


def limits(quick: bool) -> Limits:
    """Measure what the machine can do at best."""
    gemm = {name: _gemm_rate(512 if quick else 2048, name) for name in ("float32", "float64")}
    return Limits(_copy_rate(1 << (21 if quick else 25)), gemm)


def _copy_rate(length: int) -> float:
    """Return bytes per second of a copy of `length` doubles, on as many threads as there are CPUs."""
    source, target = np.ones(length), np.zeros(length)
    edges = np.linspace(0, length, cpus() + 1).astype(int).tolist()
    parts = [slice(a, b) for a, b in pairwise(edges)]
    with ThreadPoolExecutor(cpus()) as pool:
        best = _best(lambda: list(pool.map(lambda p: np.copyto(target[p], source[p]), parts)))
    return 2 * source.nbytes / best


def _gemm_rate(n: int, dtype: str) -> float:
    """Return flops per second of NumPy's product of two n x n matrices."""
    a = np.ones((n, n), dtype)
    out = np.empty_like(a)
    return 2 * n**3 / _best(lambda: np.matmul(a, a, out=out))


def _best(call: Callable[[], object], runs: int = 25) -> float:
    """Return the shortest of several times: a limit is what was reached once."""
    call()
    return min(seconds(call) for _ in range(runs))


def seconds(call: Callable[[], object]) -> float:
    """Return how long a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def description(found: Limits) -> list[str]:
    """Describe the machine in a few lines: processor, versions, thread pools, limits."""
    single, double = found.gemm["float32"], found.gemm["float64"]
    return [
        f"Machine: {_processor()}, {cpus()} CPUs for this process, {_memory()}{platform.system()}.",
        f"Versions: Python {platform.python_version()}, {', '.join(_versions())}.",
        f"Thread pools: {'; '.join(_pools())}.",
        f"Limits: copy {found.copy / 1e9:.1f} GB/s; NumPy's matrix product {double / 1e9:.0f} Gflop/s in "
        f"float64, {single / 1e9:.0f} in float32.",
    ]


def _processor() -> str:
    """Return the model of the processor."""
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _memory() -> str:
    """Return the size of the memory, where the system tells."""
    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB, "
    except (AttributeError, ValueError, OSError):
        return ""


def _versions() -> Iterator[str]:
    """Yield the packages that are there, with their versions."""
    for package in PACKAGES:
        try:
            yield f"{package} {metadata.version(package)}"
        except metadata.PackageNotFoundError:
            continue


def _pools() -> list[str]:
    """Return the thread pools of BLAS and OpenMP, equal ones once."""
    infos: list[dict[str, Any]] = threadpool_info()
    texts = [
        " ".join(str(i[k]) for k in ("internal_api", "version") if i.get(k))
        + (f" with {i['architecture']} kernels" if i.get("architecture") else "")
        + f" on {i['num_threads']} threads"
        for i in infos
    ]
    return sorted(set(texts)) or ["none that threadpoolctl knows"]


def load() -> str:
    """Return the load average of the last minute, where the system tells."""
    try:
        return f"{os.getloadavg()[0]:.1f}"
    except (AttributeError, OSError):
        return "unknown"
