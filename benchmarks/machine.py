"""The machine: what it is, and how fast it copies and multiplies."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_info

PACKAGES = ("mvgauss", "numpy", "scipy", "torch", "scikit-learn", "array-api-extra", "onnxruntime")


class Limits(NamedTuple):
    """What the machine can do at best, on all the CPUs that this process may use."""

    copy: float  #: bytes per second, those read and those written
    gemm: float  #: flops per second of a matrix product in double precision


def plain_environment() -> dict[str, str]:
    """Return the environment without settings of threads, and of kernels of BLAS for another machine."""
    settings = ("OPENBLAS_", "OMP_NUM_", "MKL_NUM_")
    return {name: value for name, value in os.environ.items() if not name.startswith(settings)}


def cpus() -> int:
    """Return the number of CPUs that this process may use, and of threads on every side."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def measured(quick: bool) -> Limits:
    """Measure what the machine can do at best: a copy by as many threads as CPUs, a product of matrices."""
    length, n = (1 << 21, 512) if quick else (1 << 25, 2048)
    source, target = np.ones(length), np.zeros(length)
    edges = np.linspace(0, length, cpus() + 1).astype(int).tolist()
    parts = [slice(a, b) for a, b in pairwise(edges)]
    with ThreadPoolExecutor(cpus()) as pool:
        copy = _shortest(lambda: list(pool.map(lambda p: np.copyto(target[p], source[p]), parts)))
    a, out = np.ones((n, n)), np.empty((n, n))
    return Limits(2 * source.nbytes / copy, 2 * n**3 / _shortest(lambda: np.matmul(a, a, out=out)))


def _shortest(call: Callable[[], object]) -> float:
    """Return the shortest of 25 times: a limit is what was reached once."""
    times = []
    for _ in range(25):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def description(limits: Limits) -> list[str]:
    """Describe the machine in a few lines: processor, versions, thread pools, limits."""
    form = "{internal_api} {version} with {architecture} kernels on {num_threads} threads"
    pools = {form.format(**{"architecture": "unnamed", **pool}) for pool in threadpool_info()}
    found = [
        f"{name} {metadata.version(name)}" for name in PACKAGES if any(metadata.distributions(name=name))
    ]
    return [
        f"Machine: {_processor()}, {cpus()} CPUs for this process, {platform.system()}.",
        f"Versions: Python {platform.python_version()}, {', '.join(found)}.",
        f"Thread pools: {'; '.join(sorted(pools)) or 'none that threadpoolctl knows'}.",
        f"Limits: copy {limits.copy / 1e9:.1f} GB/s; matrix product {limits.gemm / 1e9:.0f} Gflop/s.",
    ]


def _processor() -> str:
    """Return the model of the processor."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().partition("model name")[2].splitlines() if file.exists() else []
    return lines[0].strip("\t :") if lines else platform.processor() or platform.machine()
