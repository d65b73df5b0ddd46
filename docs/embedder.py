"""Pictures and an ONNX network -> embeddings (N, C, H, W); needs `pip install onnxruntime pillow`."""

import hashlib
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

WHOLE, NUMBER = {"type": int}, {"type": lambda text: float(Fraction(text))}
LAYOUT, SEVERAL = {"choices": ["NCHW", "NHWC"]}, {"nargs": "+"}
#: What an `Embedder` can be told, and how `argparse` takes it.
OPTIONS = {
    "input_size": {
        **WHOLE,
        "nargs": 2,
        "help": "height and width that pictures are resized to; by default as the network asks, "
        "else their own, or 256 pixels along the longer side if that is more",
    },
    "layers": {**SEVERAL, "help": "outputs of the network, (N, C, h, w) or tokens (N, T, C); by default all"},
    "grid": {"help": "layer on whose grid all are put; by default the one of medium resolution"},
    "channels": {**WHOLE, "help": "how many channels to draw at random; by default all are taken"},
    "seed": {**WHOLE, "help": "of the draw; by default 0"},
    "layout": {**LAYOUT, "help": "of the input; by default as its shape says"},
    "output_layout": {**LAYOUT, "help": "of the layers; by default NCHW"},
    "scale": {
        **NUMBER,
        "help": "a network that takes floats is fed (scale * x - mean) / std with x from 0 to 255, "
        "by default as the networks of torchvision",
    },
    "mean": {**NUMBER, **SEVERAL},
    "std": {**NUMBER, **SEVERAL},
    "white": {**WHOLE, "help": "white of grey pictures in 16 bits; by default 65535"},
}
#: What the networks of torchvision are fed.
IMAGENET = {"scale": 1 / 255, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
#: The numbers that a network may ask for.
DTYPES = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32, "tensor(float16)": np.float16}
#: Pictures that go through a network at a time, if it does not say how many.
BATCH = 16


def raise_error(argument, expected, got):
    """Raise an error that says what was expected and what came."""
    raise ValueError(f"{argument}: expected {expected}, got {got}")


def read_picture(path, mode="RGB", white=65535):
    """Return a picture in 8 bits: upright, and on white where it is transparent.

    Grey in 16 bits is scaled so that `white` becomes 255. Refused are several pictures in one file, floats,
    colours that have no RGB, and what cannot be read.
    """
    try:
        with Image.open(path) as file:
            if getattr(file, "n_frames", 1) > 1 and file.format != "MPO":
                raise ValueError(f"{file.n_frames} pictures in one file")
            picture = ImageOps.exif_transpose(file)
        if picture.mode.startswith("I"):
            values = np.asarray(picture)
            if values.min() < 0 or values.max() > white:
                raise ValueError(f"values from {values.min()} to {values.max()}, not 0 to white = {white}")
            picture = Image.fromarray(np.rint(values * (255 / white)).astype(np.uint8))
        elif picture.mode == "F":
            raise ValueError("floats, whose black and white are not known")
        if picture.has_transparency_data:
            picture = picture.convert("RGBA")
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
        return picture.convert(mode)
    except Exception as error:  # each format has errors of its own
        raise ValueError(f"picture: expected one to read, got {str(path)!r}: {error}") from error


def hash_of(network):
    """Return the SHA-256 of a network, with the file of weights that may lie beside it."""
    files = [Path(f"{network}{ending}") for ending in ("", ".data", "_data")]
    if not files[0].is_file():
        raise_error("network", "an ONNX file", repr(str(network)))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files if file.is_file())).hexdigest()


def overlap(m, n):
    """Return how much of each of m new cells lies in each of n old ones, (m, n); rows add up to 1."""
    i, j = np.arange(m)[:, None], np.arange(n)
    shared = np.minimum((i + 1) * n, (j + 1) * m) - np.maximum(i * n, j * m)
    return (np.maximum(shared, 0) / n).astype(np.float32)


def resample(layer, grid):
    """Bring a layer (N, C, h, w) to a grid by areas: whole multiples are averages or repetitions."""
    return overlap(grid[0], layer.shape[2]) @ layer @ overlap(grid[1], layer.shape[3]).T


class Embedder:
    """A network, and all that it takes to turn pictures into embeddings (N, C, H, W).

    Parameters
    ----------
    network : path-like
        An ONNX file with layers among its outputs.
    picture_size : (int, int)
        Height and width of the pictures; those of another shape are refused.
    **options
        See `OPTIONS`; `channels` may be a list too, and keeps its order.

    Attributes
    ----------
    setup : dict
        All of this in plain values, with what was not given, and a hash of the network.
    shape : (int, int, int)
        Of the embedding of one picture: features, height and width of the grid.
    """

    def __init__(self, network, picture_size, **options):
        if set(options) - set(OPTIONS):
            raise_error("options", f"some of {list(OPTIONS)}", list(options))
        for name, least in (("input_size", 1), ("white", 1), ("seed", 0)):
            if np.min(options.get(name, least)) < least:
                raise_error(name, f"{least} or more", options[name])
        digest, quiet = hash_of(network), onnxruntime.SessionOptions()
        quiet.log_severity_level = 4  # what fails is raised
        try:
            self.session = onnxruntime.InferenceSession(str(network), quiet, ["CPUExecutionProvider"])
        except Exception as error:  # one kind for each cause
            raise ValueError(f"network: expected an ONNX file, got {str(network)!r}: {error}") from error
        fed, *more = self.session.get_inputs()
        if more or len(fed.shape) != 4 or fed.type not in DTYPES:
            got = f"{fed.shape} of {fed.type}, and {len(more)} more"
            raise_error("network", "one input (N, 3, h, w) or (N, h, w, 3) of uint8 or floats", got)
        self.input, self.dtype = fed.name, DTYPES[fed.type]
        last = fed.shape[3] in (1, 3) and fed.shape[1] not in (1, 3)
        layout = options.get("layout", "NHWC" if last else "NCHW")
        self.batch, *asked = (side if isinstance(side, int) else None for side in fed.shape)
        self.mode = "L" if asked.pop(0 if layout == "NCHW" else 2) == 1 else "RGB"
        longest, size = max(picture_size), list(picture_size)
        if all(asked):
            size = asked
        elif longest > 256:  # multiples of 32 are whole patches in most networks
            size = [max(32, 32 * round(8 * side / longest)) for side in size]
        size = list(options.get("input_size", size))
        if any(a not in (None, s) for a, s in zip(asked, size, strict=True)):
            raise_error("input_size", f"{asked}, as the network asks", size)
        normalise = {name: options[name] for name in IMAGENET if name in options}
        if self.dtype is np.uint8 and normalise:
            raise_error("scale, mean, std", "none, as the network takes whole numbers", normalise)
        if self.dtype is not np.uint8:
            normalise = {"scale": 1.0, "mean": [0.0], "std": [1.0], **normalise} if normalise else IMAGENET
            for name in ("mean", "std"):
                if len(normalise[name]) not in (1, len(self.mode)):
                    wanted = "1 number or 3" if self.mode == "RGB" else "1 number, for grey pictures"
                    raise_error(name, wanted, normalise[name])
            if 0 in normalise["std"]:
                raise_error("std", "numbers other than 0", normalise["std"])
        outputs = {output.name: output.shape for output in self.session.get_outputs()}
        on_grid = [name for name, shape in outputs.items() if len(shape) in (3, 4)]
        layers = list(options.get("layers", on_grid))
        if not layers or set(layers) - set(outputs):
            got = layers or "none on a grid; see the page on embeddings for how to add some"
            raise_error("layers", f"some of the outputs of the network, {outputs}", got)
        self.setup = {
            "network": Path(network).name,
            "sha256": digest,
            "picture_size": [int(side) for side in picture_size],
            "input_size": [int(side) for side in size],
            "layout": layout,
            "output_layout": options.get("output_layout", "NCHW"),
            "white": options.get("white", 65535),
            "layers": layers,
            **normalise,
        }
        sizes = {name: a.shape[1:] for name, a in self._layers([Image.new(self.mode, size[::-1])])}
        medium = sorted(layers, key=lambda name: math.prod(sizes[name][1:]))[(len(layers) - 1) // 2]
        grid = options.get("grid", medium)
        if grid not in layers:
            raise_error("grid", f"one of {layers}", repr(grid))
        total = sum(size[0] for size in sizes.values())
        channels = options.get("channels", range(total))
        if isinstance(channels, int) and 1 <= channels <= total:
            rng = np.random.default_rng(options.get("seed", 0))
            channels = np.sort(rng.choice(total, channels, replace=False)).tolist()
        wrong = [channels] if isinstance(channels, int) else sorted(set(channels) - set(range(total)))
        if wrong or not channels:
            raise_error("channels", f"1 to {total} of them, counted from 0", wrong)
        self.channels = np.array(channels)
        self.setup |= {"grid": grid, "channels": self.channels.tolist()}
        self.shape = (len(self.channels), *sizes[grid][1:])

    def read(self, path):
        """Return a picture file as all pictures are: of their shape, and of the size of the input."""
        picture = read_picture(path, self.mode, self.setup["white"])
        (height, width), (h, w) = self.setup["picture_size"], self.setup["input_size"]
        if abs(math.log(picture.width * height / (picture.height * width))) > 0.02:
            got = f"{picture.height} x {picture.width} in {str(path)!r}"
            raise_error("picture", f"the shape of {height} x {width} pixels", got)
        return picture.resize((w, h), Image.Resampling.BILINEAR)

    def embed(self, pictures):
        """Return the embedding (N, C, H, W) of N pictures of the size of the input."""
        result, start = np.empty((len(pictures), *self.shape), np.float32), 0
        for _, layer in self._layers(pictures):
            stop = start + layer.shape[1]
            taken = (start <= self.channels) & (self.channels < stop)
            result[:, taken] = resample(layer[:, self.channels[taken] - start], self.shape[1:])
            start = stop
        return result

    def batches(self, paths):
        """Yield some of the files, their pictures, and their embedding, until there are no more."""
        for some in (paths[i : i + BATCH] for i in range(0, len(paths), BATCH)):
            pictures = [self.read(path) for path in some]
            yield some, pictures, self.embed(pictures)

    def _layers(self, pictures):
        """Yield the name and the values (N, C, h, w) of each layer."""
        x = np.stack([np.asarray(picture) for picture in pictures])
        x = x.reshape(*x.shape[:3], -1)
        if self.dtype is not np.uint8:
            scale, mean, std = (np.float32(self.setup[name]) for name in IMAGENET)
            x = ((scale * x - mean) / std).astype(self.dtype)
        x = np.moveaxis(x, -1, 1) if self.setup["layout"] == "NCHW" else x
        n, names = len(x), self.setup["layers"]
        step = self.batch or BATCH
        if self.batch:  # it takes so many, no fewer
            x = np.concatenate([x, np.repeat(x[-1:], -n % step, axis=0)])
        try:
            runs = [self.session.run(names, {self.input: x[i : i + step]}) for i in range(0, n, step)]
        except Exception as error:  # one kind for each cause
            size = self.setup["input_size"]
            raise ValueError(
                f"input_size: expected one that the network takes, got {size}: {error}"
            ) from error
        for name, parts in zip(names, zip(*runs, strict=True), strict=True):
            yield name, self._on_grid(name, np.concatenate(parts)[:n])

    def _on_grid(self, name, a):
        """Return a layer as (N, C, h, w); refuse one that does not lie on the picture."""
        h, w = self.setup["input_size"]
        if a.ndim == 3 and h == w:  # tokens: those before a square of them are no patches
            side = math.isqrt(a.shape[1])
            return np.moveaxis(a[:, -(side**2) :].reshape(len(a), side, side, -1), -1, 1)
        if a.ndim != 4:
            raise_error("layers", f"{name} on a grid, or tokens of square pictures", f"shape {a.shape}")
        a = a if self.setup["output_layout"] == "NCHW" else np.moveaxis(a, -1, 1)
        if abs(a.shape[2] * w - a.shape[3] * h) > h + w:  # sides of grids are rounded
            raise_error("output_layout", f"{name} on a grid like {h} x {w}", f"{a.shape[2]} x {a.shape[3]}")
        return a
