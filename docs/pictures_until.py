"""Stands in for what `MultiVariateGaussian` is about to bring; goes away with two lines of `pictures.py`."""

import json
from pathlib import Path

import numpy as np

import mvgauss


class MultiVariateGaussian(mvgauss.MultiVariateGaussian):
    """With p-values of images, and with metadata in a file beside the model."""

    def calibrate(self, embedding):
        """Keep the largest leave-one-out distance of each image too."""
        super().calibrate(embedding)
        self.good_ = self.leave_one_out(embedding).max(axis=(1, 2))
        return self

    def image_p_value(self, embedding):
        """Return the conformal p-values of the largest distances."""
        scores = self.mahalanobis(embedding).max(axis=(1, 2))
        return (1 + (self.good_ >= scores[:, None]).sum(axis=1)) / (len(self.good_) + 1)

    def save(self, path, *, resumable=True, metadata=None):
        """Write the model, and beside it what the file cannot hold yet."""
        super().save(path, resumable=resumable)
        beside = {"metadata": metadata, "good": self.good_.tolist()}
        Path(f"{path}.json").write_text(json.dumps(beside), encoding="utf-8")

    @classmethod
    def load(cls, path):
        """Read both."""
        self = super().load(path)
        beside = Path(f"{path}.json")
        beside = json.loads(beside.read_text(encoding="utf-8")) if beside.exists() else {}
        self.metadata, self.good_ = beside.get("metadata"), np.array(beside.get("good"), np.float32)
        return self
