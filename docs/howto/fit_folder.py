"""Fit a folder of .npy batches, one batch in memory at a time; start again after a kill.

    python fit_folder.py BATCHES STATES

The state after each batch is one file in STATES, named after that batch.
"""

import sys
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mvgauss import MultiVariateGaussian


def fit_folder(batches, states):
    """Return the model of all batches, having gone on from the last state if there is one."""
    batches, states = Path(batches), Path(states)
    model, last = MultiVariateGaussian(), ""
    for state in sorted(states.glob("after-*.npz")):
        model, last = MultiVariateGaussian.load(state), state.stem.removeprefix("after-")
    paths = sorted(batches.glob("*.npy"))
    todo = [path for path in paths if path.stem > last]
    for path in tqdm(todo, initial=len(paths) - len(todo), total=len(paths), unit="batch"):
        model.partial_fit(np.load(path))
        model.save(states / f"after-{path.stem}.npz")  # written beside, then moved into place
        for old in states.glob("after-*.npz"):
            if old.stem < f"after-{path.stem}":
                old.unlink()
    return model


if __name__ == "__main__":
    fit_folder(*sys.argv[1:])
