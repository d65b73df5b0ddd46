"""Fit good images and score others, one of them with a defect, where no thread can start."""

import threading

import numpy as np

from mvgauss import MultiVariateGaussian, anomaly_map

rng = np.random.default_rng(0)
good = rng.standard_normal((60, 16, 14, 14), np.float32)  # embeddings (N, C, H, W)
new = rng.standard_normal((4, 16, 14, 14), np.float32)
new[3, :, 5, 8] += 3  # the defect

model = MultiVariateGaussian().fit(good)
distances = model.mahalanobis(new)
limit = model.threshold(good, 0.02, source="training")
maps = anomaly_map(distances, 112)

print("threads:", threading.active_count())
print("largest distances:", distances.max(axis=(1, 2)).round(1))
print("decisions:", model.predict(new), "at the limit", round(limit, 1))
