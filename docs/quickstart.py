"""Fit one Gaussian per patch to real CNN embeddings, score test images, and draw what stands out.

    python docs/quickstart.py [PICTURE]

prints what it finds and writes the picture, docs/quickstart.png by default. Where the embeddings
come from: docs/data/README.md.
"""

import sys
from pathlib import Path

import numpy as np
from scipy.stats import rankdata

from mvgauss import MultiVariateGaussian, anomaly_map, plot

HERE = Path(__file__).resolve().parent


def roc_auc(scores, labels):
    """Return how often a defective item scores above a good one; ties count half."""
    ranks, bad = rankdata(scores), np.asarray(labels, bool)
    n_bad, n_good = bad.sum(), (~bad).sum()
    return (ranks[bad].sum() - n_bad * (n_bad + 1) / 2) / (n_bad * n_good)


def main():
    """Run the whole job."""
    data = np.load(HERE / "data" / "small.npz")
    train = data["train"].astype(np.float32)  # (60, 24, 14, 14): images, features, grid of patches
    test = data["test"].astype(np.float32)  # (12, 24, 14, 14)
    labels, masks, kinds = data["test_labels"], data["test_masks"], data["test_kinds"]

    model = MultiVariateGaussian().fit(train)  # good images only
    distances = model.mahalanobis(test)  # (12, 14, 14), in standard deviations
    scores = distances.max(axis=(1, 2))  # of its most anomalous patch
    maps = anomaly_map(distances, 112, sigma=4)  # (12, 112, 112), one value per pixel

    print(f"fitted {train.shape[2] * train.shape[3]} Gaussians of {train.shape[1]} features")
    print(f"image ROC AUC {roc_auc(scores, labels):.4f}")
    print(f"pixel ROC AUC {roc_auc(maps.ravel(), masks.ravel()):.4f}\n")
    print("index  kind      label  score")
    for i, (kind, label, score) in enumerate(zip(kinds, labels, scores, strict=True)):
        print(f"{i:5}  {kind:8}  {label:5}  {score:5.2f}")

    picture = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "quickstart.png"
    shown = [8, 6, 7, 9, 11, 10, 2, 1]  # the six defects, then two good images
    titles = [f"{kinds[i]}\n{scores[i]:.1f}" for i in shown]
    figure = plot.anomaly_maps(data["test_rgb"][shown], maps[shown], masks[shown], titles=titles)
    figure.savefig(picture, dpi=96)
    print(f"\nwrote {picture}")


if __name__ == "__main__":
    main()
