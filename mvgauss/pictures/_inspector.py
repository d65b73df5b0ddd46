"""Gaussians of good pictures and a limit -> verdicts on other pictures."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from PIL import Image

from mvgauss import MultiVariateGaussian, _arguments, conformal_p_value, conformal_threshold
from mvgauss._arguments import Array
from mvgauss.pictures import _good, _network, _progress
from mvgauss.pictures._embedder import Embedder
from mvgauss.pictures._files import PictureError
from mvgauss.pictures._network import hash_of

#: Pixels along the longer side of the picture of a verdict, at most.
LARGEST = 1024


@dataclass(frozen=True, eq=False)
class Verdict:
    """What an inspector says of a picture.

    Parameters
    ----------
    path : Path
        The file.
    score : float
        The largest distance of its patches, in standard deviations; NaN if it could not be judged.
    p_value : float
        Probability that a good picture has a score at least as large; NaN if it could not be judged.
    flagged : bool
        Whether the score exceeds the limit.
    distances : ndarray, shape (H, W), or None
        The distances of its patches; None if it could not be judged.
    picture : PIL.Image.Image or None
        The picture, of at most 1024 pixels along the longer side.
    error : str
        Why it could not be judged; empty if it was.
    """

    path: Path
    score: float = math.nan
    p_value: float = math.nan
    flagged: bool = False
    distances: Array | None = None
    picture: Image.Image | None = None
    error: str = ""


class Inspector:
    """A network, the Gaussians of good pictures, and a limit.

    Parameters
    ----------
    embedder : Embedder
        What makes embeddings of pictures.
    model : MultiVariateGaussian
        The Gaussians of good pictures, with the limit `threshold_`.
    good_scores : array_like, shape (n,)
        The largest leave-one-out distance of each of the good pictures.

    Attributes
    ----------
    embedder : Embedder
        What makes embeddings of pictures.
    model : MultiVariateGaussian
        The Gaussians of good pictures, with the limit `threshold_`.
    good_scores : ndarray, shape (n,)
        The largest leave-one-out distance of each of the good pictures.
    """

    def __init__(self, embedder: Embedder, model: MultiVariateGaussian, good_scores: Any) -> None:
        self.embedder, self.model = embedder, model
        self.good_scores = np.asarray(good_scores, np.float64)

    @property
    def limit(self) -> float:
        """The score above which a picture is flagged: the model's `threshold_`."""
        return self.model.threshold_

    @property
    def rate(self) -> float:
        """Fraction of good pictures that exceed the limit: (1 + those of the n fitted that do) / (n + 1)."""
        above = int((self.good_scores > self.limit).sum())
        return (1 + above) / (len(self.good_scores) + 1)

    @classmethod
    def fit(
        cls,
        embedder: Embedder,
        paths: Sequence[str | os.PathLike[str]],
        rate: float = 0.05,
        *,
        reg_covar: float = 0.01,
        shrinkage: float | Literal["oas", "ledoit_wolf"] | None = None,
        scratch: str | os.PathLike[str] | None = None,
        progress: bool = False,
    ) -> Self:
        """Fit good pictures, and set a limit that further good ones exceed at a rate.

        Parameters
        ----------
        embedder : Embedder
            What makes embeddings of pictures.
        paths : sequence of path-like
            Files of good pictures.
        rate : float, default 0.05
            Fraction of good pictures that may be flagged.
        reg_covar : float, default 0.01
            As of `MultiVariateGaussian`.
        shrinkage : float, {"oas", "ledoit_wolf"}, optional
            As of `MultiVariateGaussian`.
        scratch : path-like, optional
            A folder for the embeddings meanwhile, by default where the system has its temporary files.
        progress : bool, default False
            Whether to show bars on the standard error.

        Returns
        -------
        Inspector
            The embedder, the model, and the scores of the good pictures, each left out in turn.

        Raises
        ------
        ValueError
            If there are too few pictures for the rate, all are alike, or some cannot be read: all of these
            are named, before anything is fitted.

        Warns
        -----
        UserWarning
            If the brightest value of all pictures is far below white, or some pictures are copies of others.
        """
        _good.check_rate(rate, len(paths))
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            pictures = _good.read(embedder, paths, Path(folder, "pictures.npy"), progress)
            _good.warn_if_dark(embedder, paths, pictures)
            _good.raise_if_alike(paths, pictures)
            good = _good.embed(embedder, paths, pictures, Path(folder, "embedding.npy"), progress)
            model = MultiVariateGaussian(reg_covar=reg_covar, shrinkage=shrinkage).fit(good)
            scores = model.leave_one_out(good).reshape(len(paths), -1).max(axis=1)
            model.calibrate(good)
            del pictures, good  # files that are open cannot be removed everywhere
        limit = conformal_threshold(scores, rate)
        if limit == 0:
            _good.raise_alike(paths)
        model.threshold_ = limit
        return cls(embedder, model, scores)

    def judge(self, paths: Sequence[str | os.PathLike[str]], *, progress: bool = False) -> Iterator[Verdict]:
        """Judge pictures, one after the other.

        Parameters
        ----------
        paths : sequence of path-like
            Files of pictures that were not fitted.
        progress : bool, default False
            Whether to show a bar on the standard error.

        Returns
        -------
        iterator of Verdict
            Of each picture, in the order of the files. One that cannot be read, or has another shape than
            the fitted ones, has an `error` and no score.
        """
        return _progress.shown(self._verdicts(paths), "judging", len(paths), progress)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save the model, with what its network needs to be told and the scores of the good pictures.

        Parameters
        ----------
        path : path-like
            Where to write to, ``.npz``. The network itself is not in the file.
        """
        kept = {"setup": self.embedder.setup, "good_scores": self.good_scores.tolist()}
        self.model.save(path, resumable=False, metadata=kept)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        network: str | os.PathLike[str],
        rate: float | None = None,
        **options: Any,
    ) -> Self:
        """Load what was saved, and open the network that goes with it.

        Parameters
        ----------
        path : path-like
            A file that `save` wrote.
        network : path-like
            The ONNX file of the network that the model was fitted with.
        rate : float, optional
            Fraction of good pictures that may be flagged, instead of the limit that was saved.
        **options : object
            Options of `Embedder` that the model has to have been fitted with.

        Returns
        -------
        Inspector
            The same as was saved.

        Raises
        ------
        ValueError
            If the network or an option is not that of the model, or the file has none of them.
        """
        model = MultiVariateGaussian.load(path)
        if not {"setup", "good_scores"} <= set(model.metadata or {}):
            _arguments.raise_error("model", "one that an Inspector saved", repr(str(path)))
        kept, scores = dict(model.metadata["setup"]), np.array(model.metadata["good_scores"])
        name, digest = kept.pop("network"), kept.pop("sha256")
        if hash_of(network) != digest:
            wanted = f"the one that the model was fitted with, {name!r}"
            _arguments.raise_error("network", wanted, repr(str(network)))
        if "seed" in options:  # of another draw?
            options = {"channels": len(kept["channels"]), **options}
        for key, value in options.items():
            value = list(value) if isinstance(value, tuple) else value
            if key not in ("channels", "seed") and value != kept.get(key):
                _arguments.raise_error(key, f"{kept.get(key)}, as the model was fitted with", value)
        embedder = Embedder(network, **{**kept, **options})
        if embedder.setup["channels"] != kept["channels"]:
            wanted = f"the {len(kept['channels'])} that the model was fitted with"
            _arguments.raise_error("channels", wanted, "others")
        if rate is not None:
            _good.check_rate(rate, len(scores))
            model.threshold_ = conformal_threshold(scores, rate)
        return cls(embedder, model, scores)

    def _verdicts(self, paths: Sequence[str | os.PathLike[str]]) -> Iterator[Verdict]:
        """Yield the verdicts on some pictures at a time, as many as go through the network together."""
        for start in range(0, len(paths), _network.BATCH):
            yield from self._of_batch([Path(path) for path in paths[start : start + _network.BATCH]])

    def _of_batch(self, paths: Sequence[Path]) -> list[Verdict]:
        """Return the verdicts on pictures that go through the network together."""
        verdicts: dict[Path, Verdict] = {}
        read, shown = [], []
        for path in paths:
            try:
                whole = self.embedder.read_whole(path)
            except PictureError as error:
                verdicts[path] = Verdict(path, error=error.reason)
                continue
            read.append((path, self.embedder.resized(whole)))
            shown.append(smaller(whole))
        if read:
            embedding = self.embedder.embed([picture for _, picture in read])
            finite = np.asarray(np.isfinite(embedding).all(axis=(1, 2, 3)))
            distances = self.model.mahalanobis(np.where(finite[:, None, None, None], embedding, 0))
            scores = distances.max(axis=(1, 2)).astype(np.float64)
            p_values = conformal_p_value(scores, self.good_scores)
            for i, (path, _) in enumerate(read):
                if not finite[i]:
                    verdicts[path] = Verdict(
                        path, picture=shown[i], error="the network gives no finite numbers"
                    )
                    continue
                flagged = bool(scores[i] > self.limit)
                verdicts[path] = Verdict(
                    path, float(scores[i]), float(p_values[i]), flagged, distances[i], shown[i]
                )
        return [verdicts[path] for path in paths]


def smaller(picture: Image.Image) -> Image.Image:
    """Return a picture of at most `LARGEST` pixels along the longer side."""
    part = LARGEST / max(picture.size)
    if part >= 1:
        return picture
    width, height = (max(1, round(part * side)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.BILINEAR)
