"""A network in ONNX format, and what it takes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from mvgauss import _arguments
from mvgauss._arguments import Array
from mvgauss.pictures._files import written_size

#: Pictures that go through a network at a time, if it does not say how many.
BATCH = 16
#: The numbers that a network may ask for.
DTYPES: dict[str, type[np.generic]] = {
    "tensor(uint8)": np.uint8,
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
}
#: What the networks of torchvision are fed.
IMAGENET: dict[str, Any] = {"scale": 1 / 255, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


def hash_of(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a network, with the file of weights that may lie beside it."""
    files = [Path(f"{path}{ending}") for ending in ("", ".data", "_data")]
    if not files[0].is_file():
        _arguments.raise_error("network", "an ONNX file", repr(str(path)))
    digest = hashlib.sha256()
    for file in files:
        if file.is_file():
            with open(file, "rb") as content:
                while block := content.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()


class Network:
    """A network with one input for pictures."""

    def __init__(self, path: str | os.PathLike[str], layout: str | None) -> None:
        """Open the file; `layout` is that of the input, by default as its shape says."""
        self.path, self.sha256 = Path(path), hash_of(path)
        quiet = onnxruntime.SessionOptions()
        quiet.log_severity_level = 4  # what fails is raised
        try:
            self.session = onnxruntime.InferenceSession(str(path), quiet, ["CPUExecutionProvider"])
        except Exception as error:  # one kind for each cause
            raise ValueError(f"network: expected an ONNX file, got {str(path)!r}: {error}") from error
        fed, *more = self.session.get_inputs()
        if more or len(fed.shape) != 4 or fed.type not in DTYPES:
            got = f"{fed.shape} of {fed.type}, and {len(more)} more"
            wanted = "one input (N, 3, h, w) or (N, h, w, 3) of uint8 or floats"
            _arguments.raise_error("network", wanted, got)
        self.input, self.dtype = str(fed.name), DTYPES[fed.type]
        last = fed.shape[3] in (1, 3) and fed.shape[1] not in (1, 3)
        self.layout = layout or ("NHWC" if last else "NCHW")
        self.batch, *asked = (side if isinstance(side, int) else None for side in fed.shape)
        self.mode = "L" if asked.pop(0 if self.layout == "NCHW" else 2) == 1 else "RGB"
        #: Height and width that it asks for; None where it takes any.
        self.size: list[int | None] = asked
        self.outputs: dict[str, list[Any]] = {out.name: out.shape for out in self.session.get_outputs()}

    def input_size(self, picture_size: Sequence[int], given: Sequence[int] | None) -> list[int]:
        """Return height and width that pictures are resized to."""
        longest, size = max(picture_size), list(picture_size)
        if None not in self.size:
            size = [side for side in self.size if side is not None]
        elif longest > 256:  # multiples of 32 are whole patches in most networks
            size = [max(32, 32 * round(8 * side / longest)) for side in size]
        size = size if given is None else list(given)
        if any(asked not in (None, side) for asked, side in zip(self.size, size, strict=True)):
            asked = written_size(["any" if side is None else side for side in self.size])
            _arguments.raise_error(
                "input_size", f"{asked} (width x height), as the network asks", written_size(size)
            )
        return size

    def normalisation(self, given: dict[str, Any]) -> dict[str, Any]:
        """Return scale, mean and standard deviation of what is fed; empty for whole numbers."""
        if self.dtype is np.uint8:
            if given:
                wanted = "none, as the network takes whole numbers"
                _arguments.raise_error("scale, mean, std", wanted, given)
            return {}
        numbers = {"scale": 1.0, "mean": [0.0], "std": [1.0], **given} if given else IMAGENET
        for name in ("mean", "std"):
            if len(numbers[name]) not in (1, len(self.mode)):
                wanted = "1 number or 3" if self.mode == "RGB" else "1 number, for grey pictures"
                _arguments.raise_error(name, wanted, numbers[name])
        if 0 in numbers["std"]:
            _arguments.raise_error("std", "numbers other than 0", numbers["std"])
        return numbers

    def run(self, names: Sequence[str], x: Array) -> Iterator[Array]:
        """Yield the outputs of these names for N pictures in the layout of the input."""
        n, step = len(x), self.batch or BATCH
        if self.batch:  # it takes so many, no fewer
            x = np.concatenate([x, np.repeat(x[-1:], -n % step, axis=0)])
        try:
            runs = [self.session.run(names, {self.input: x[i : i + step]}) for i in range(0, n, step)]
        except Exception as error:  # one kind for each cause
            size = x.shape[2:] if self.layout == "NCHW" else x.shape[1:3]
            raise ValueError(
                f"input_size: expected one that the network takes, got {written_size(size)}: {error}"
            ) from error
        for parts in zip(*runs, strict=True):
            yield np.concatenate(parts)[:n]
