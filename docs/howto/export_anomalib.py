"""Write the statistics of a PaDiM that anomalib trained to an .npz file. This step needs torch, once.

python export_anomalib.py CHECKPOINT OUTPUT.npz
"""

import sys

import numpy as np
import torch


def export(checkpoint, output):
    """Find the three buffers in a checkpoint or a state dictionary, and write them."""
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    state = state.get("state_dict", state)
    names = {"mean": "gaussian.mean", "inv_covariance": "gaussian.inv_covariance", "idx": "idx"}
    found = {}
    for key, ending in names.items():
        (name,) = [n for n in state if n == ending or n.endswith(f".{ending}")]
        found[key] = state[name].numpy()
    np.savez(output, **found)


if __name__ == "__main__":
    export(*sys.argv[1:])
