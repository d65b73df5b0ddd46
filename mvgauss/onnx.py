"""A model as one ONNX file, which runs wherever an ONNX runtime does (the extra ``onnx``)."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from mvgauss import _arguments
from mvgauss._arguments import Array
from mvgauss._gaussian import MultiVariateGaussian
from mvgauss._linalg.precision import Dense, LowRank, Precision
from mvgauss._maps import anomaly_map
from mvgauss._model.state import State
from mvgauss._runtime import blocks

try:
    import onnx
    import onnx.compose
    import onnx.version_converter
    from onnx import TensorProto, helper, numpy_helper
except ImportError as error:  # pragma: no cover
    raise ImportError(
        "mvgauss.onnx: expected the package onnx, got none; pip install 'mvgauss[onnx]'"
    ) from error

__all__ = ["export"]

#: Operators and file format that runtimes of the last years read.
OPSET, IR_VERSION = 17, 8
#: From so many bytes on numbers are written beside the file: a protobuf ends at 2 GiB, and names need some.
LARGEST_FILE = (2 << 30) - (64 << 20)
#: By so much of a distance, half precision may change it.
HALF_ERROR = 5e-3
#: Of the values of an embedding, the errors of a network in single and in half precision.
NETWORK_ERRORS = {False: 1e-4, True: 2e-3}
#: Of the largest value of a map, the error of maps besides that of distances.
MAP_ERROR = 1e-5
#: Images that a file is tried on.
_TRIED = 4

_SINGLE_EPS = float(np.finfo(np.float32).eps)


class Factors(NamedTuple):
    r"""What turns deviations z of P patches into distances, in the precision of the file.

    .. math:: d = |D W z| \quad\text{or, of few rows,}\quad d^2 = |D W z|^2 + h^2 |z - W^T W z|^2,

    where the n rows of W are then orthonormal, and h = 1 / sqrt(floor).
    """

    rows: Array  #: W, (P, n, C)
    scale: Array | None  #: the diagonal of D, (P, n); None for ones
    floor_scale: Array | None  #: h, (P,); None where W says all

    def distances(self, z: Array) -> Array:
        """Return the distances of deviations ``(P, M, C)`` in double precision, ``(P, M)``."""
        w = self.rows.astype(np.float64)
        y = np.matmul(z, w.swapaxes(1, 2))
        r = None if self.floor_scale is None else (z - np.matmul(y, w)) * self.floor_scale[:, None, None]
        y = y if self.scale is None else y * self.scale[:, None, :]
        squares = np.vecdot(y, y)
        return np.asarray(np.sqrt(squares if r is None else squares + np.vecdot(r, r)))


def export(
    model: MultiVariateGaussian,
    path: str | os.PathLike[str],
    *,
    embedder: Any = None,
    image_size: int | tuple[int, int] | None = None,
    sigma: float = 4.0,
    check: bool = True,
    dtype: DTypeLike | None = None,
) -> float | None:
    r"""Write a model as one ONNX file.

    Parameters
    ----------
    model : MultiVariateGaussian
        The Gaussians, and the limit if one was set.
    path : path-like
        Where to write to. Of more than 2 GiB, the numbers are written to a second file beside it, whose
        name is that of the first with ``.data`` added.
    embedder : mvgauss.pictures.Embedder, optional
        What makes the embeddings of the model: its network and all that follows become part of the file.
    image_size : int or (int, int), optional
        Height and width of anomaly maps, which are then an output.
    sigma : float, default 4.0
        Standard deviation of the smoothing of maps in pixels, as of `anomaly_map`.
    check : bool, default True
        Whether to run the file and compare it with the model, where onnxruntime is installed.
    dtype : dtype, optional
        ``float16`` to store the factors in half precision; they are used in single precision, as by default.

    Returns
    -------
    float or None
        The largest relative difference that the check found of a distance, or of a map, relative to
        its largest value; None without a check.

    Raises
    ------
    ValueError
        If the model is not fitted, or an argument does not fit it; if numbers do not fit into single
        precision, or half precision changes a distance by more than 0.5 %; if the check finds a difference
        beyond the bound. Nothing is written then.
    TypeError
        If an argument is of the wrong kind.
    OSError
        If the file cannot be written.

    See Also
    --------
    mvgauss.anomaly_map : The maps.

    Notes
    -----
    Inputs and outputs, with N images at once:

    ==================  =======================================================================
    ``embedding``       float32, in the layout of the model: (N, C, H, W), (N, C, P), (N, C), ...
    ``pictures``        instead of it, with an embedder: uint8, (N, 3, h, w) or (N, h, w, 3), as
                        the network takes them, of the size that the network takes
    ``threshold``       float32, optional: another limit than that of the model
    ``distances``       float32, (N, H, W): Mahalanobis distances, in standard deviations
    ``pred_score``      float32, (N,): the largest of an image; where a limit was set
    ``pred_label``      bool, (N,): whether that is above the limit; where one was set
    ``anomaly_map``     float32, (N, height, width), with `image_size`
    ==================  =======================================================================

    The form is that of the model, whichever takes less memory: W with :math:`W^T W = \hat\Sigma^{-1}`, or of
    few samples an orthonormal basis of their deviations, with which all sums are those of squares. The mean
    is subtracted first, as a sum of two numbers in single precision, and everything is computed in single
    precision. With :math:`\lambda` the smallest variance of a patch and :math:`\epsilon = 1.2 \cdot 10^{-7}`,
    a distance d may err by :math:`8 \epsilon\, (\sqrt{C}\, |x - \mu| / \sqrt\lambda + d)`; half precision
    adds 0.5 % of d, and an embedder :math:`10^{-4} |x| / \sqrt\lambda`, or twenty times that with a network
    in half precision. A map is two products of matrices, and errs by what distances do and :math:`10^{-5}` of
    its largest value. The check is of these bounds, at samples drawn from the model and at farther ones,
    and with an embedder at pictures of noise.

    The file is of opset 17 and IR version 8, or of those of a network that needs newer ones. Its metadata
    are texts: ``unit``, ``model`` and ``metadata`` of the model, and ``embedder``, the last two JSON.

    Examples
    --------
    >>> import numpy as np
    >>> from mvgauss import MultiVariateGaussian
    >>> from mvgauss.onnx import export
    >>> good = np.random.default_rng(0).standard_normal((50, 8, 7, 7))
    >>> model = MultiVariateGaussian().fit(good)
    >>> model.threshold_ = 6.0
    >>> difference = export(model, "model.onnx", image_size=224)  # doctest: +SKIP
    """
    if not isinstance(model, MultiVariateGaussian):
        _arguments.raise_error("model", "a MultiVariateGaussian", type(model).__name__, TypeError)
    check, half = _arguments.flag("check", check), _is_half(dtype)
    state = model._scorable()
    axis = _axis(model, state)
    if embedder is not None:
        state = _with_grid_of(embedder, state, axis)
    upsampling = None if image_size is None else _upsampling(state, image_size, sigma)
    factors = _in_range(_factors(state.required_precision(), state.n_features), state)
    if half:
        factors = _halved(factors, state)
    target = Path(path)
    with tempfile.TemporaryDirectory(prefix=".onnx-", dir=target.absolute().parent) as folder:
        new, worst = Path(folder, target.name), None
        runs = check and importlib.util.find_spec("onnxruntime") is not None
        trial = _Trial(state, axis, half, upsampling, sigma)
        if embedder is None or runs:
            _Graph(OPSET).with_embedding(state, axis).finish(state, factors, upsampling).write(
                new, _described(model, state)
            )
            worst = trial.on_samples(new) if runs else None
        if embedder is not None:
            graph = _Graph.of_network(embedder.network.path).with_pictures(embedder, state)
            graph.finish(state, factors, upsampling).write(new, _described(model, state, embedder))
            worst = max(worst or 0, trial.on_pictures(new, embedder)) if runs else None
        for name in (f"{target.name}.data", target.name):
            if Path(folder, name).exists():
                os.replace(Path(folder, name), target.with_name(name))
    return worst


# -- arguments


def _is_half(dtype: DTypeLike | None) -> bool:
    """Return whether factors are stored in half precision."""
    given = np.dtype(np.float32) if dtype is None else _arguments.inexact("dtype", dtype, kinds="f")
    if given not in (np.float16, np.float32):
        _arguments.raise_error("dtype", "float16 or float32", str(given))
    return given == np.float16


def _axis(model: MultiVariateGaussian, state: State) -> int:
    """Return the axis of the features in an embedding."""
    ndim, axis = len(state.shape) + 2, _arguments.integer("feature_axis", model.feature_axis)
    if not -ndim <= axis < ndim or axis % ndim == 0:
        _arguments.raise_error("feature_axis", f"an axis of {ndim} other than the first", axis)
    return axis % ndim


def _with_grid_of(embedder: Any, state: State, axis: int) -> State:
    """Return the state on the grid of an embedder, whose embeddings have to be those of the model."""
    pictures = sys.modules.get("mvgauss.pictures")
    if pictures is None or not isinstance(embedder, pictures.Embedder):
        _arguments.raise_error("embedder", "a mvgauss.pictures.Embedder", type(embedder).__name__, TypeError)
    c, h, w = embedder.shape
    fits = state.n_features == c and axis == 1
    fits &= state.n_patches == h * w if state.grid is None else state.grid == (h, w)
    if not fits:
        grid = (state.n_patches,) if state.grid is None else state.grid
        wanted = f"one of {state.n_features} features on axis {axis} and a grid of {grid}, as the model"
        _arguments.raise_error("embedder", wanted, f"embeddings (N, {c}, {h}, {w})")
    return state.select(np.arange(h * w).reshape(h, w)) if state.grid is None else state


def _upsampling(state: State, image_size: int | tuple[int, int], sigma: float) -> tuple[Array, Array]:
    """Return the matrices L and R with which the map of distances D is L D R^T."""
    if len(state.shape) != 2:
        hint = "model.select(np.arange(P).reshape(H, W)) is the same model on a grid"
        got = f"a grid of {state.shape}" if state.shape else "one Gaussian"
        _arguments.raise_error("image_size", "none, or a model on a grid (H, W)", got, hint=hint)
    anomaly_map(np.zeros((1, *state.shape)), image_size, sigma)  # refuses what is no size
    size = image_size if isinstance(image_size, (tuple, list, np.ndarray)) else (image_size, image_size)
    # bilinear and Gaussian are linear, and act on rows and columns one after the other
    of_rows, of_columns = (
        anomaly_map(np.eye(n)[:, :, None], (int(side), 1), sigma)[:, :, 0].T
        for n, side in zip(state.shape, size, strict=True)
    )
    return of_rows.astype(np.float32), of_columns.astype(np.float32)


# -- numbers


def _factors(precision: Precision, c: int) -> Factors:
    """Return the factors in single precision."""
    if isinstance(precision, Dense):
        with np.errstate(over="ignore"):
            return Factors(precision.root.astype(np.float32, copy=False), None, None)
    assert isinstance(precision, LowRank)
    rows, scale, floor_scale = blocks.walk(
        lambda b: _orthonormal(precision[b]), len(precision.rank), 4 * precision.rows.shape[1] * c * 8
    )
    return Factors(rows, scale, floor_scale)


def _orthonormal(precision: LowRank) -> tuple[Array, Array, Array]:
    """Return W, D and h of few rows, whose singular values are the standard deviations along W."""
    k = precision.rows.astype(np.float64, copy=False)
    _, values, axes = np.linalg.svd(k, full_matrices=False)
    variances = precision.scale[:, None] * values**2 + precision.floor[:, None]
    known = precision.floor > 0
    counts = known[:, None] | (np.arange(values.shape[1]) < precision.rank[:, None])
    with np.errstate(over="ignore"):
        scale = 1 / np.sqrt(np.where(counts, variances, np.inf))
        floor_scale = 1 / np.sqrt(np.where(known, precision.floor, np.inf))
        return axes.astype(np.float32), scale.astype(np.float32), floor_scale.astype(np.float32)


def _in_range(factors: Factors, state: State) -> Factors:
    """Refuse numbers that single precision does not hold."""
    largest = float(np.finfo(np.float32).max)
    for a in (state.mean, *factors):
        if a is not None and a.size and not max(a.max(), -a.min()) <= largest:
            _arguments.raise_error("model", "numbers that single precision holds", "larger ones")
    return factors


def _halved(factors: Factors, state: State) -> Factors:
    """Return the factors with rows in half precision; refuse those that it changes too much."""
    size = np.abs(factors.rows).max(axis=2, initial=0)
    size = np.where(size > 0, size, 1).astype(np.float32)  # half precision has a short range
    rows = (factors.rows / size[:, :, None]).astype(np.float16)
    if factors.floor_scale is None:
        result = Factors(rows, size, None)
    else:  # rows of an orthonormal basis are no larger than 1
        result = factors._replace(rows=factors.rows.astype(np.float16))
    precision = state.required_precision()

    def kernel(b: slice) -> Array:
        z = _deviations(precision[b], b.start)
        want = np.sqrt(precision[b].squared_norms(z))
        part = Factors(result.rows[b], *(None if a is None else a[b] for a in result[1:]))
        return _relative(np.abs(part.distances(z) - want), want)

    worst = float(blocks.walk(kernel, state.n_patches, 4 * state.n_features**2 * 8).max(initial=0))
    if worst > HALF_ERROR:
        wanted = f"float32, as float16 may change a distance by {HALF_ERROR:.1%}"
        _arguments.raise_error("dtype", wanted, f"float16, which changes one by {worst:.2g} times itself")
    return result


def _relative(difference: Array, size: Array) -> Array:
    """Return differences relative to sizes, 0 where there is none."""
    with np.errstate(divide="ignore"):
        return np.divide(difference, size, out=np.zeros(difference.shape), where=difference > 0)


def _deviations(precision: Precision, seed: int) -> Array:
    """Return deviations from the mean drawn from Gaussians ``(B, M, C)``: of each second image, larger."""
    rng = np.random.default_rng(seed)
    if isinstance(precision, LowRank):
        b, n, c = precision.rows.shape
        draws = rng.standard_normal((b, _TRIED, n)) * np.sqrt(precision.scale)[:, None, None]
        z: Array = rng.standard_normal((b, _TRIED, c)) * np.sqrt(precision.floor)[:, None, None]
        z += np.matmul(draws, precision.rows)
    else:
        assert isinstance(precision, Dense)
        root = precision.root.astype(np.float64, copy=False)
        b, n, c = root.shape
        draws = rng.standard_normal((b, _TRIED, n))
        if n == c and (precision.rank == c).all():
            z = np.linalg.solve(root, draws.swapaxes(1, 2)).swapaxes(1, 2)
        else:
            z = np.matmul(draws, np.linalg.pinv(root).swapaxes(1, 2))
    z[:, 1::2] *= np.array([3.0, 30.0])[: _TRIED // 2, None]
    return np.asarray(z)


def _steepness(precision: Precision) -> Array:
    """Return at least how fast a distance grows at most, ``(B,)``: 1 over the smallest standard deviation."""
    if isinstance(precision, Dense):
        return np.asarray(np.linalg.norm(precision.root.astype(np.float64, copy=False), axis=(1, 2)))
    assert isinstance(precision, LowRank)
    known = precision.floor > 0
    of_floor = 1 / np.sqrt(np.where(known, precision.floor, 1))
    return np.where(known, of_floor, np.linalg.norm(precision.small, axis=(1, 2)))


# -- the graph


class _Graph:
    """Nodes and constants that become a file."""

    def __init__(self, opset: int) -> None:
        self.opset, self.ir_version = opset, IR_VERSION
        self.domains: dict[str, int] = {}
        self.functions: list[Any] = []
        self.network: list[Any] = []  #: nodes of the network
        self.nodes: list[Any] = []
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []
        self.constants: dict[str, Array] = {}
        self.tensors: list[Any] = []  #: constants of the network
        self.n: str | int = "N"

    @classmethod
    def of_network(cls, path: Path) -> _Graph:
        """Read a network; names of its own get a prefix."""
        network = onnx.load(path)
        opset = max((o.version for o in network.opset_import if o.domain in ("", "ai.onnx")), default=1)
        if opset < OPSET:
            try:
                network = onnx.version_converter.convert_version(network, OPSET)
            except Exception as error:  # one kind for each cause
                raise ValueError(
                    f"embedder: expected a network that can be brought to opset {OPSET}, got one of opset "
                    f"{opset}: {error}"
                ) from error
        network = onnx.compose.add_prefix(network, "network/")
        self = cls(max(opset, OPSET))
        if opset > OPSET:
            self.ir_version = max(IR_VERSION, network.ir_version)
        self.domains = {o.domain: o.version for o in network.opset_import if o.domain not in ("", "ai.onnx")}
        self.functions = list(network.functions)
        self.network, self.tensors = list(network.graph.node), list(network.graph.initializer)
        if network.graph.sparse_initializer:
            _arguments.raise_error("embedder", "a network without sparse constants", "one with some")
        return self

    def constant(self, name: str, value: Array) -> str:
        """Add a constant, and return its name."""
        self.constants[name] = value
        return name

    def sizes(self, name: str, *sizes: int) -> str:
        """Add a constant of whole numbers."""
        return self.constant(name, np.array(sizes, np.int64))

    def node(self, op: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Add a node, and return the name of its output."""
        output = output or f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [output], **attributes))
        return output

    def input(self, name: str, kind: int, shape: Sequence[str | int], text: str) -> str:
        """Add an input."""
        self.inputs.append(helper.make_tensor_value_info(name, kind, shape, text))
        return name

    def output(self, name: str, kind: int, shape: Sequence[int], text: str) -> None:
        """Add an output of N images."""
        self.outputs.append(helper.make_tensor_value_info(name, kind, (self.n, *shape), text))

    def with_embedding(self, state: State, axis: int) -> _Graph:
        """Take embeddings in the layout of the model; return self."""
        shape: list[str | int] = ["N", *state.shape]
        shape.insert(axis, state.n_features)
        self.input("embedding", TensorProto.FLOAT, shape, "embeddings of N images")
        self._samples("embedding", [i for i in range(1, len(shape)) if i != axis], axis, state)
        return self

    def with_pictures(self, embedder: Any, state: State) -> _Graph:
        """Take pictures, which go through the network and onto one grid; return self."""
        network, setup = embedder.network, embedder.setup
        first = network.layout == "NCHW"
        self.n = network.batch or "N"
        shape: list[str | int] = [self.n, *setup["input_size"]]
        shape.insert(1 if first else 3, 3 if network.mode == "RGB" else 1)
        text = f"N pictures {network.layout}, 0 to 255, {'red, green, blue' if 3 in shape[1::2] else 'grey'}"
        x = self.input("pictures", TensorProto.UINT8, shape, text)
        if "scale" in setup:
            x = self.node("Cast", x, to=TensorProto.FLOAT)
            x = self.node("Mul", x, self.constant("pictures/scale", np.array(setup["scale"], np.float32)))
            for op, name in (("Sub", "mean"), ("Div", "std")):
                numbers = np.array(setup[name], np.float32).reshape((-1, 1, 1) if first else (-1,))
                x = self.node(op, x, self.constant(f"pictures/{name}", numbers))
            if network.dtype is np.float16:
                x = self.node("Cast", x, to=TensorProto.FLOAT16)
        self.node("Identity", x, output=f"network/{network.input}")
        self.nodes += self.network
        layers = [self._on_grid(layer) for layer in embedder.layers if len(layer.positions)]
        x = self.node("Concat", *layers, axis=1) if len(layers) > 1 else layers[0]
        positions = np.concatenate([layer.positions for layer in embedder.layers])
        if (positions != np.arange(len(positions))).any():
            order = self.constant("embedding/order", np.argsort(positions).astype(np.int64))
            x = self.node("Gather", x, order, axis=1)
        self._samples(x, [2, 3], 1, state)
        return self

    def _on_grid(self, layer: Any) -> str:
        """Bring an output of the network to the grid of the embedding, as `Layer.on_grid` does."""
        x, (c, h, w) = f"network/{layer.name}", layer.shape
        x = self.node("Cast", x, to=TensorProto.FLOAT)
        if layer.kind == "NHWC":
            x = self.node("Transpose", x, perm=(0, 3, 1, 2))
        elif layer.kind == "tokens":
            sizes = (("from", -h * w), ("to", np.iinfo(np.int64).max), ("axis", 1))
            x = self.node("Slice", x, *(self.sizes(f"{layer.name}/{name}", i) for name, i in sizes))
            x = self.node("Transpose", x, perm=(0, 2, 1))
            x = self.node("Reshape", x, self.sizes(f"{layer.name}/shape", 0, c, h, w))
        if len(layer.channels) != c or (layer.channels != np.arange(c)).any():
            channels = self.constant(f"{layer.name}/channels", layer.channels.astype(np.int64))
            x = self.node("Gather", x, channels, axis=1)
        if (len(layer.rows), len(layer.columns)) != (h, w):
            x = self.node("MatMul", self.constant(f"{layer.name}/rows", layer.rows), x)
            x = self.node("MatMul", x, self.constant(f"{layer.name}/columns", layer.columns.T))
        return x

    def _samples(self, x: str, grid_axes: list[int], axis: int, state: State) -> None:
        """Name the deviations from the mean, (P, C, N), of an embedding."""
        x = self.node("Transpose", x, perm=(*grid_axes, axis, 0))
        x = self.node("Reshape", x, self.sizes("samples", state.n_patches, state.n_features, -1))
        high = state.mean.astype(np.float32)
        x = self.node("Sub", x, self.constant("mean", high[:, :, None]))
        low = (state.mean - high).astype(np.float32)
        self.node("Sub", x, self.constant("mean/low", low[:, :, None]), output="deviations")

    def finish(self, state: State, factors: Factors, upsampling: tuple[Array, Array] | None) -> _Graph:
        """Add what follows from the deviations; return self."""
        rows = self.constant("rows", factors.rows)
        if factors.rows.dtype == np.float16:
            rows = self.node("Cast", rows, to=TensorProto.FLOAT)
        y = self.node("MatMul", rows, "deviations")
        if factors.scale is None:
            squares = self._sum_of_squares(y, 1)
        else:
            scaled = self.node("Mul", y, self.constant("rows/scale", factors.scale[:, :, None]))
            squares = self._sum_of_squares(scaled, 1)
        if factors.floor_scale is not None:
            off = self._off_rows(rows, y, factors.rows.shape)
            off = self.node("Mul", off, self.constant("floor/scale", factors.floor_scale[:, None, None]))
            squares = self.node("Add", squares, self._sum_of_squares(off, 2))
        d = self.node("Transpose", self.node("Sqrt", squares), perm=(1, 0))
        self.node("Reshape", d, self.sizes("grid", -1, *state.shape), output="distances")
        self.output("distances", TensorProto.FLOAT, state.shape, "of each patch, in standard deviations")
        if state.limit is not None:
            self._decide(state.limit.value, d)
        if upsampling is not None:
            left, right = upsampling
            x = self.node("MatMul", self.constant("map/rows", left), "distances")
            self.node("MatMul", x, self.constant("map/columns", right.T), output="anomaly_map")
            text = "distances on the pixels of a picture, smoothed"
            self.output("anomaly_map", TensorProto.FLOAT, (len(left), len(right)), text)
        return self

    def _off_rows(self, rows: str, y: str, shape: tuple[int, ...]) -> str:
        """Return what of the deviations is not along the rows, (P, N, C)."""
        y = self.node("Transpose", y, perm=(0, 2, 1))
        # which changes nothing: onnxruntime makes one operator of a transposition and the product after it,
        # which takes several times as long as both
        y = self.node("Reshape", y, self.sizes("rows/shape", shape[0], -1, shape[1]))
        z = self.node("Transpose", "deviations", perm=(0, 2, 1))
        return self.node("Sub", z, self.node("MatMul", y, rows))

    def _sum_of_squares(self, x: str, axis: int) -> str:
        """Sum squares over an axis, which goes."""
        axes = self.sizes(f"axis_{axis}", axis)
        return self.node("ReduceSum", self.node("Mul", x, x), axes, keepdims=0)

    def _decide(self, limit: float, d: str) -> None:
        """Compare the largest distances, of (N, P), with a limit that is a constant and an input too."""
        if self.opset < 18:
            self.node("ReduceMax", d, axes=(1,), keepdims=0, output="pred_score")
        else:
            self.node("ReduceMax", d, self.sizes("axis_1", 1), keepdims=0, output="pred_score")
        self.constant("threshold", np.array(limit, np.float32))
        text = "the largest distance of an image that is not flagged, in standard deviations"
        self.input("threshold", TensorProto.FLOAT, (), text)
        self.node("Greater", "pred_score", "threshold", output="pred_label")
        self.output("pred_score", TensorProto.FLOAT, (), "the largest distance of each image")
        self.output("pred_label", TensorProto.BOOL, (), "whether it is above the threshold")

    # -- the file

    def write(self, path: Path, description: dict[str, str]) -> None:
        """Write the file, with the numbers in a second one if they are too many for one."""
        nodes, needed = self._used()
        graph = helper.make_graph(nodes, "mvgauss", self.inputs, self.outputs)
        tensors = [t for t in self.tensors if t.name in needed]
        total = sum(a.nbytes for a in self.constants.values()) + sum(t.ByteSize() for t in tensors)
        if total > LARGEST_FILE:
            graph.initializer.extend(self._beside(path, tensors))
        else:
            graph.initializer.extend(tensors)
            graph.initializer.extend(numpy_helper.from_array(a, name) for name, a in self.constants.items())
        domains = {"": self.opset, **self.domains}
        imports = [helper.make_opsetid(domain, version) for domain, version in domains.items()]
        model = helper.make_model(
            graph,
            opset_imports=imports,
            ir_version=self.ir_version,
            functions=self.functions,
            producer_name="mvgauss",
        )
        helper.set_model_props(model, description)
        path.write_bytes(model.SerializeToString())
        onnx.checker.check_model(path)

    def _used(self) -> tuple[list[Any], set[str]]:
        """Return the nodes that outputs need, and the names of all that these use."""
        needed = {output.name for output in self.outputs}
        nodes = []
        for node in reversed(self.nodes):
            if needed & set(node.output):
                nodes.append(node)
                needed |= _names(node)
        return nodes[::-1], needed

    def _beside(self, path: Path, tensors: Iterable[Any]) -> list[Any]:
        """Write the numbers of all large constants beside the file; return tensors that say where."""
        arrays = ((t.name, numpy_helper.to_array(t)) for t in tensors)
        found, name = [], f"{path.name}.data"
        with open(path.with_name(name), "wb") as file:
            for key, a in (*arrays, *self.constants.items()):
                if a.nbytes < 1024:
                    found.append(numpy_helper.from_array(a, key))
                    continue
                file.write(bytes(-file.tell() % 4096))  # whole pages can be mapped
                places = {"location": name, "offset": str(file.tell()), "length": str(a.nbytes)}
                kind = helper.np_dtype_to_tensor_dtype(a.dtype)
                tensor = TensorProto(
                    name=key, data_type=kind, dims=a.shape, data_location=TensorProto.EXTERNAL
                )
                for entry in places.items():
                    tensor.external_data.add(key=entry[0], value=entry[1])
                np.ascontiguousarray(a).astype(a.dtype.newbyteorder("<"), copy=False).tofile(file)
                found.append(tensor)
        return found


def _names(node: Any) -> set[str]:
    """Return the names that a node uses, those in its subgraphs too."""
    names = set(node.input)
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            names |= {output.name for output in graph.output}
            for inner in graph.node:
                names |= _names(inner)
    return names


def _described(model: MultiVariateGaussian, state: State, embedder: Any = None) -> dict[str, str]:
    """Return the metadata of the file."""
    described = {
        "unit": "standard deviations",
        "model": f"{model!r} of {state.n_samples or 'an unknown number of'} images",
        "metadata": json.dumps(model.metadata),
    }
    if embedder is not None:
        described["embedder"] = json.dumps(embedder.setup)
    return described


# -- the check


class _Trial(NamedTuple):
    """The model with which a file is compared."""

    state: State
    axis: int
    half: bool
    upsampling: tuple[Array, Array] | None
    sigma: float

    def on_samples(self, path: Path) -> float:
        """Run a file that takes embeddings; return the largest relative difference, refuse a larger one."""
        state, precision = self.state, self.state.required_precision()

        def kernel(b: slice) -> Array:
            z = _deviations(precision[b], b.start)
            return (z + state.mean[b, None]).astype(np.float32)

        stack = blocks.walk(kernel, state.n_patches, 4 * state.n_features**2 * 8)
        samples = stack.reshape(*state.shape, _TRIED, state.n_features)
        x = np.moveaxis(np.moveaxis(samples, -2, 0), -1, self.axis)
        return self._compared(path, {"embedding": np.ascontiguousarray(x)}, stack, 0)

    def on_pictures(self, path: Path, embedder: Any) -> float:
        """Run a file that takes pictures, as `on_samples`."""
        network, (h, w) = embedder.network, embedder.setup["input_size"]
        shape = (network.batch or _TRIED, h, w, 3 if network.mode == "RGB" else 1)
        pictures = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        pictures[1::2] //= 8  # dark ones too
        embedding = embedder.embed(pictures if shape[3] == 3 else pictures[..., 0])
        fed = np.moveaxis(pictures, -1, 1) if network.layout == "NCHW" else pictures
        n, c = embedding.shape[:2]
        network_error = NETWORK_ERRORS[network.dtype is np.float16]
        stack = embedding.reshape(n, c, -1).transpose(2, 0, 1)
        return self._compared(path, {"pictures": np.ascontiguousarray(fed)}, stack, network_error)

    def _compared(self, path: Path, fed: dict[str, Array], stack: Array, stack_error: float) -> float:
        """Compare the outputs of a file with the model's for samples ``(P, N, C)``."""
        import onnxruntime

        state = self.state
        session = onnxruntime.InferenceSession(path, _quiet(onnxruntime), ["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        got = dict(zip(names, session.run(names, fed), strict=True))
        precision, mean, n = state.required_precision(), state.mean[:, None], stack.shape[1]
        item_bytes = 4 * n * state.n_features * 8

        def kernel(b: slice) -> tuple[Array, Array]:
            x = stack[b].astype(np.float64)
            z = x - mean[b]
            d = np.sqrt(precision[b].squared_norms(z))
            size = 8 * _SINGLE_EPS * math.sqrt(state.n_features) * np.linalg.norm(z, axis=2)
            size += stack_error * np.linalg.norm(x, axis=2)
            relative = 8 * _SINGLE_EPS + HALF_ERROR * self.half
            return d, size * _steepness(precision[b])[:, None] + relative * d

        want, bound = (a.T for a in blocks.walk(kernel, state.n_patches, item_bytes))
        d = got["distances"].reshape(n, -1)
        worst = _refused_beyond("distances", np.abs(d - want), bound, want)
        if state.limit is not None:
            score, near = want.max(axis=1), bound.max(axis=1)
            wrong = got["pred_label"] != (score > state.limit.value)
            wrong &= np.abs(score - state.limit.value) > near
            if wrong.any() or (got["pred_score"] != d.max(axis=1)).any():
                raise _differs("pred_label", "another decision")
        if self.upsampling is not None:
            left, right = self.upsampling
            image_size = len(left), len(right)
            maps = anomaly_map(want.reshape(n, *state.shape), image_size, self.sigma)
            largest = maps.max(axis=(1, 2), keepdims=True)
            near = MAP_ERROR * largest + bound.max(axis=1)[:, None, None]
            difference = np.abs(got["anomaly_map"] - maps)
            worst = max(worst, _refused_beyond("anomaly_map", difference, near, largest))
        return worst


def _quiet(onnxruntime: Any) -> Any:
    """Return options with which nothing is printed; errors are raised."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return options


def _refused_beyond(name: str, difference: Array, bound: Array, size: Array) -> float:
    """Return the largest difference relative to sizes; refuse one beyond a bound."""
    if not (difference <= bound).all():
        worst = float(np.nanmax(difference - bound, initial=0))
        raise _differs(name, f"{worst:.3g} beyond the bound" if worst else "no numbers")
    return float(_relative(difference, np.broadcast_to(size, difference.shape)).max(initial=0))


def _differs(name: str, got: str) -> ValueError:
    """Return the error of a file that does not do what the model does."""
    return ValueError(f"model: expected {name} of the file within the bound of the model's, got {got}")
