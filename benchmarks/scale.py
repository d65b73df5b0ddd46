"""What a fit on Dask costs for each chunk and each merge, and what that predicts for many workers.

    python -m benchmarks.scale [--quick]

Prints the tables of docs/explanation/scale.md. The seconds of chunks, merges and factors are those of
one thread (CPU seconds, the least of some runs), so that other work on the machine spoils them little.
"""

from __future__ import annotations

import argparse
import os
import pickle
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from math import ceil, log
from pathlib import Path
from typing import Any, NamedTuple

import dask
import dask.array as da
import numpy as np
import zarr
from distributed import Client, LocalCluster

import mvgauss.dask
from mvgauss import MultiVariateGaussian, _fitting
from mvgauss._fitted import Fitted
from mvgauss._shrinkage import Regularisation
from mvgauss.dask._tasks import ALONE

FLOAT = np.dtype(np.float32)
STORAGE = 200e6  #: bytes per second that one worker reads, uncompressed: an assumption
NETWORK = 1e9  #: bytes per second between two machines: an assumption


class Work(NamedTuple):
    """An embedding and its chunks."""

    n_samples: int
    n_features: int
    n_patches: int
    chunk_samples: int
    chunk_patches: int

    @property
    def read(self) -> int:
        """Return the bytes of one chunk in single precision."""
        return self.chunk_samples * self.n_features * self.chunk_patches * 4

    @property
    def state(self) -> int:
        """Return the bytes of the moments of one chunk of many images, in double precision."""
        c = self.n_features
        return self.chunk_patches * (c + c * (c + 1) // 2) * 8

    @property
    def runs(self) -> int:
        """Return how many chunks there are along the samples."""
        return ceil(self.n_samples / self.chunk_samples)

    @property
    def columns(self) -> int:
        """Return how many chunks there are along the patches."""
        return ceil(self.n_patches / self.chunk_patches)

    @property
    def chunks(self) -> int:
        """Return how many chunks there are."""
        return self.runs * self.columns

    def tree(self, split_every: int) -> tuple[int, int]:
        """Return how many tasks merge the chunks of the same patches, and how many states they take."""
        tasks = states = 0
        left = self.runs
        while left > 1:
            alone = left % split_every == 1  # goes on as it is
            states += left - alone
            left = ceil(left / split_every)
            tasks += left - alone
        return tasks, states


def least(task: Callable[[], Any], runs: int, clock: Callable[[], float] = time.thread_time) -> float:
    """Return the least seconds of some runs."""
    best = float("inf")
    for _ in range(runs):
        start = clock()
        task()
        best = min(best, clock() - start)
    return best


def moments_of(x: Any) -> Fitted:
    """Return what a task computes of a chunk ``(n, C, p)``."""
    return _fitting.fit(x.transpose(2, 0, 1), None, dtype=FLOAT, how=Regularisation(1, 0.01), walk=ALONE)


class Cost(NamedTuple):
    """The seconds of one thread."""

    chunk: float
    merge: float
    factor: float  #: of all patches of a chunk


def cost(work: Work, runs: int) -> Cost:
    """Measure a chunk."""
    shape = (work.chunk_samples, work.n_features, work.chunk_patches)
    x = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    state = moments_of(x)
    assert state.nbytes == work.state
    return Cost(
        least(lambda: moments_of(x), runs),
        least(lambda: _fitting.merge(state, state, ALONE), runs),
        least(lambda: replace(state).without_moments(ALONE), runs),
    )


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Print a Markdown table."""
    head = list(head)
    print("| " + " | ".join(head) + " |\n|" + " ---: |" * len(head))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print(flush=True)


def size(count: float) -> str:
    """Write bytes."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 999.5 or unit == "TB":
            return f"{count:.3g} {unit}"
        count /= 1000
    return ""


def span(seconds: float) -> str:
    """Write seconds."""
    if seconds < 0.1:
        return f"{seconds * 1e3:.2g} ms"
    if seconds < 100:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.3g} min" if seconds < 5400 else f"{seconds / 3600:.3g} h"


def costs(works: list[Work], runs: int) -> list[Cost]:
    """Print what single tasks cost."""
    found = [cost(work, runs) for work in works]
    table(
        ["C", "chunk n x p", "read", "moments", "share", "chunk", "GFlop/s", "merge two", "GB/s", "factors"],
        (
            [
                f"{w.n_features}",
                f"{w.chunk_samples} x {w.chunk_patches}",
                size(w.read),
                size(w.state),
                f"{w.state / w.read:.0%}",
                span(c.chunk),
                # a product of a matrix with itself, counted as one triangle
                f"{w.chunk_samples * w.n_features**2 * w.chunk_patches / c.chunk / 1e9:.1f}",
                span(c.merge),
                f"{3 * w.state / c.merge / 1e9:.1f}",
                span(c.factor),
            ]
            for w, c in zip(works, found, strict=True)
        ),
    )
    return found


def transport(client: Client, state: Fitted) -> float:
    """Return bytes per second of moments from one worker to another, over loopback."""
    one, other = client.scheduler_info(n_workers=-1)["workers"]

    def move() -> float:
        here = client.scatter(state, workers=[one], hash=False)
        start = time.perf_counter()
        client.submit(lambda s: s.n_samples, here, workers=[other], pure=False).result()
        return time.perf_counter() - start

    return state.nbytes / min(move() for _ in range(5))


def overhead(client: Client, tasks: int) -> tuple[float, float]:
    """Return the seconds per chunk to make a graph, and those of the scheduler for each of its tasks."""
    x = da.zeros((tasks, 2, 4), chunks=(1, 2, 4))
    start = time.perf_counter()
    lazy = dask.optimize(mvgauss.dask.fit(MultiVariateGaussian(), x))[0]
    made = time.perf_counter() - start
    start = time.process_time()  # the scheduler and the client live in this process
    client.compute(lazy).result()
    return made / tasks, (time.process_time() - start) / (tasks * 4 / 3)


def real(client: Client, work: Work, folder: str) -> None:
    """Fit from zarr on the cluster, and print what was read and moved."""
    rng = np.random.default_rng(0)
    shape = (work.n_samples, work.n_features, work.n_patches)
    stored = (work.chunk_samples // 4, work.n_features, work.chunk_patches)
    x = rng.standard_normal(shape, dtype=np.float32)
    zarr.create_array(f"{folder}/x.zarr", shape=shape, chunks=stored, dtype=x.dtype, compressors=None)[:] = x
    chunks = (work.chunk_samples, work.n_features, work.chunk_patches)

    def moved(dask_worker: Any) -> int:
        return sum(transfer["total"] for transfer in dask_worker.transfer_incoming_log)

    def memory(line: str) -> int:
        """Read it from Linux: the peak that getrusage tells is that of the parent, if that was higher."""
        text = Path("/proc/self/status").read_text()
        return int(text.partition(line)[2].split()[0]) * 1024

    def warm(dask_worker: Any) -> None:
        mvgauss.dask.fit(MultiVariateGaussian(), da.zeros((9, 3, 2))).compute(scheduler="synchronous")

    client.run(warm)
    rest, before = client.run(memory, "VmRSS:"), sum(client.run(moved).values())
    start = time.perf_counter()
    lazy = mvgauss.dask.fit(MultiVariateGaussian(), da.from_zarr(f"{folder}/x.zarr", chunks=chunks))
    model = client.compute(lazy).result()
    took = time.perf_counter() - start
    between = sum(client.run(moved).values()) - before
    held = max(most - rest[worker] for worker, most in client.run(memory, "VmHWM:").items())
    start = time.perf_counter()
    want = MultiVariateGaussian().fit(x)
    alone = time.perf_counter() - start
    np.testing.assert_allclose(model.covariance, want.covariance, rtol=0, atol=1e-6)
    _, states = work.tree(4)
    table(
        ["read", "moments made", "into merges", "between the workers", "held by one", "wall", "in memory"],
        [
            [
                size(x.nbytes),
                size(work.chunks * work.state),
                size(states * work.columns * work.state),
                size(between),
                size(held),
                span(took),
                span(alone),
            ]
        ],
    )


def forecast(works: list[Work], found: list[Cost], per_task: float, split_every: int = 4) -> None:
    """Print what the numbers predict; a worker is one thread."""
    rows = []
    for w, c in zip(works, found, strict=True):
        tasks, states = w.tree(split_every)
        leaves = w.chunks * (w.read / STORAGE + c.chunk)
        into = states * w.columns * w.state
        merges = (w.runs - 1) * w.columns * c.merge + into / NETWORK
        # when the last chunks are done, the merges above them are done one after another
        levels = ceil(log(w.runs, split_every)) if w.runs > 1 else 0
        tail = levels * (split_every - 1) * (c.merge + w.state / NETWORK)
        scheduler = w.columns * (w.runs + tasks) * per_task
        rows.append(
            [
                f"{w.chunk_samples} x {w.chunk_patches}",
                f"{w.columns * (w.runs + tasks):,}",
                size(w.read + (split_every + 2) * w.state),
                size(into),
                size(w.chunks * w.read / 100),
                size(into / 100),
                *(span(max((leaves + merges) / workers + tail, scheduler)) for workers in (10, 100, 1000)),
            ]
        )
    head = ["chunk n x p", "tasks", "held by a worker", "moved, at most"]
    head += ["read per worker of 100", "moved per worker of 100"]
    table([*head, *(f"{workers} workers" for workers in (10, 100, 1000))], rows)


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser("python -m benchmarks.scale", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small sizes: only that everything runs")
    quick = parser.parse_args().quick
    runs = 1 if quick else 3
    million = 1_000_000
    small = [Work(million, 20, 196, n, p) for n, p in ((64, 196), (256, 49))]
    usual = [Work(million, 100, 3136, n, p) for n, p in ((100, 3136), (400, 784), (1600, 196), (2800, 112))]
    large = [Work(million, 550, 3136, n, p) for n, p in ((550, 112), (2048, 28), (8192, 7))]
    print("Chunks\n")
    load = os.getloadavg()[0]
    found = costs(small if quick else [*usual, *large], runs)
    with (
        tempfile.TemporaryDirectory() as folder,
        dask.config.set({"temporary-directory": folder, "distributed.logging.distributed": "error"}),
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            worker_dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"dashboard": False},
        ) as cluster,
        Client(cluster) as client,
    ):
        print("A fit on two workers\n")
        real(client, Work(2048, 20, 196, 512, 49) if quick else Work(8192, 100, 196, 1024, 49), folder)
        print(f"Load average {load:.1f} before, {os.getloadavg()[0]:.1f} after, on {os.cpu_count()} cores.\n")
        x = np.random.default_rng(0).standard_normal((300, 20 if quick else 550, 28), dtype=np.float32)
        state = moments_of(x)
        frames: list[pickle.PickleBuffer] = []
        head = pickle.dumps(state, protocol=5, buffer_callback=frames.append)
        print(f"moments of {size(state.nbytes)}: pickled as {len(head)} B and {len(frames)} buffers")
        print(f"from worker to worker, on this machine: {size(transport(client, state))}/s")
        made, per_task = overhead(client, 300 if quick else 6000)
        print(f"to make the graph {span(made)} per chunk, to schedule {span(per_task)} per task\n")
    if quick:
        forecast(small, found, per_task)
        return
    print(f"A million images: C = 100, 56 x 56, {size(4e6 * 100 * 3136)} in single precision\n")
    forecast(usual, found[: len(usual)], per_task)
    print(f"A million images: C = 550, 56 x 56, {size(4e6 * 550 * 3136)} in single precision\n")
    forecast(large, found[len(usual) :], per_task)
    print("The same, by how many states a task merges, in chunks of 8192 x 7\n")
    table(
        ["split_every", "tasks of the tree", "moved, at most", "held by a merge", "merges in a row"],
        (
            [
                f"{k}",
                f"{large[-1].columns * large[-1].tree(k)[0]:,}",
                size(large[-1].columns * large[-1].tree(k)[1] * large[-1].state),
                size((k + 2) * large[-1].state),
                f"{ceil(log(large[-1].runs, k)) * (k - 1)}",
            ]
            for k in (2, 4, 8)
        ),
    )


if __name__ == "__main__":
    main()
