"""``mvgauss.onnx``: a file gives what the model gives, whatever the model is, or is refused by name."""

import json

import numpy as np
import pytest
from common import frozen, quietly, run_onnx

from mvgauss import MultiVariateGaussian, anomaly_map

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")

import mvgauss.onnx as module  # noqa: E402
from mvgauss.onnx import export  # noqa: E402

SINGLE = float(np.finfo(np.float32).eps)


def gaussian(n, c=24, grid=(2, 3), condition=100.0, offset=0.0, seed=0):
    """Draw n images of c features at each patch, of covariances of a condition number."""
    rng = np.random.default_rng(seed)
    sd = np.geomspace(1, condition**-0.5, c)
    axes = np.linalg.qr(rng.standard_normal((*grid, c, c)))[0]
    x = np.einsum("nhwc,hwcd->ndhw", rng.standard_normal((n, *grid, c)) * sd, axes)
    return frozen((x + offset).astype(np.float32))


def bound(condition, c=24):
    """Return by how much of itself a distance may err in single precision."""
    return 4 * np.sqrt(c * condition) * SINGLE


FEW, MANY = 10, 200


@pytest.mark.parametrize("condition", [1.0, 1e4, 1e8])
@pytest.mark.parametrize("kept", ["float32", "float64"])
@pytest.mark.parametrize("n", [FEW, MANY])
@pytest.mark.parametrize(
    "how",
    [
        {"reg_covar": 1e-2},
        {"reg_covar": 1e-8},
        {"reg_covar": 0},
        {"reg_covar": 0, "shrinkage": 1e-6},
        {"reg_covar": 0, "shrinkage": "oas"},
        {"reg_covar": 1e-4, "shrinkage": "ledoit_wolf"},
    ],
    ids=str,
)
def test_distances_of_a_file_are_those_of_the_model_in_both_forms(how, n, kept, condition, tmp_path):
    x, new = gaussian(n, condition=condition), gaussian(9, condition=condition, seed=1)
    model = MultiVariateGaussian(dtype=kept, **how).fit(x)
    exact = MultiVariateGaussian(dtype="float64", **how).fit(x)
    assert export(model, tmp_path / "model.onnx") <= bound(1e8)
    want = exact.mahalanobis(new)
    got = run_onnx(tmp_path / "model.onnx", embedding=new)["distances"]
    assert got.dtype == np.float32
    finite = exact.diagnostics()["condition"]
    spread = np.where(np.isfinite(finite), finite, condition)
    assert (np.abs(got - want) <= bound(spread) * want).all()


@pytest.mark.parametrize("n", [FEW, MANY])
def test_an_offset_of_the_features_costs_no_digits(n, tmp_path):
    x = gaussian(n, offset=4096.0)  # of which single precision has 12 digits behind the point
    model = MultiVariateGaussian(dtype="float64").fit(x)
    export(model, tmp_path / "model.onnx")
    got = run_onnx(tmp_path / "model.onnx", embedding=x)["distances"]
    np.testing.assert_allclose(got, model.mahalanobis(x), rtol=bound(100))


@pytest.mark.parametrize(
    ("axis", "grid"), [(1, ()), (1, (5,)), (1, (2, 3)), (-1, (5,)), (-1, (2, 3)), (2, (2, 3)), (1, (2, 3, 2))]
)
@pytest.mark.parametrize("n", [FEW, MANY])
def test_embeddings_are_taken_in_the_layout_of_the_model(axis, grid, n, tmp_path, rng):
    x = np.moveaxis(rng.standard_normal((n, 24, *grid)).astype(np.float32), 1, axis)
    model = MultiVariateGaussian(feature_axis=axis).fit(x)
    model.threshold_ = 5.0
    export(model, tmp_path / "model.onnx")
    for some in (x[:1], x[:7]):
        got = run_onnx(tmp_path / "model.onnx", embedding=some)
        want = model.mahalanobis(some)
        assert got["distances"].shape == want.shape
        np.testing.assert_allclose(got["distances"], want, rtol=1e-5)
        np.testing.assert_array_equal(got["pred_score"], got["distances"].reshape(len(some), -1).max(axis=1))


def test_few_samples_take_less_memory_than_matrices(tmp_path):
    sizes = {}
    for n in (FEW, MANY):
        export(MultiVariateGaussian().fit(gaussian(n, c=64)), tmp_path / "model.onnx")
        sizes[n] = (tmp_path / "model.onnx").stat().st_size
    assert sizes[FEW] < 4 * 6 * (FEW + 4) * 64 + 4096 < 4 * 6 * 64 * 64 < sizes[MANY]


def test_a_file_is_read_by_runtimes_of_the_last_years_and_says_what_it_is(tmp_path):
    x = gaussian(MANY)
    MultiVariateGaussian().fit(x).save(tmp_path / "model.npz", metadata={"lens": "50 mm"})
    model = MultiVariateGaussian.load(tmp_path / "model.npz")
    export(model, tmp_path / "model.onnx")
    file = onnx.load(tmp_path / "model.onnx")
    assert [(o.domain, o.version) for o in file.opset_import] == [("", 17)]
    assert file.ir_version == 8
    said = {entry.key: entry.value for entry in file.metadata_props}
    assert said["unit"] == "standard deviations"
    assert json.loads(said["metadata"]) == {"lens": "50 mm"}


def test_the_file_of_a_model_without_a_limit_does_not_decide(tmp_path):
    export(MultiVariateGaussian().fit(gaussian(MANY)), tmp_path / "model.onnx", image_size=8)
    assert set(run_onnx(tmp_path / "model.onnx", embedding=gaussian(2))) == {"distances", "anomaly_map"}


def test_the_limit_is_the_models_until_another_is_given(tmp_path):
    x = gaussian(MANY)
    model = MultiVariateGaussian().fit(x)
    model.threshold(gaussian(99, seed=1), 0.3)
    export(model, tmp_path / "model.onnx")
    new = gaussian(50, seed=2)
    got = run_onnx(tmp_path / "model.onnx", embedding=new)
    assert got["pred_label"].dtype == bool
    np.testing.assert_array_equal(got["pred_label"], model.predict(new) == -1)
    assert 0 < got["pred_label"].sum() < 50
    for limit in (0.0, float(got["pred_score"][7]), 1e6):
        other = run_onnx(tmp_path / "model.onnx", embedding=new, threshold=np.array(limit, np.float32))
        np.testing.assert_array_equal(other["pred_label"], got["pred_score"] > np.float32(limit))


@pytest.mark.parametrize("sigma", [0, 1.5, 4.0])
@pytest.mark.parametrize("size", [(50, 37), 224, (3, 2), (1, 1)])
@pytest.mark.parametrize("grid", [(2, 3), (7, 7), (1, 4)])
def test_maps_of_a_file_are_those_of_anomaly_map(grid, size, sigma, tmp_path):
    model = MultiVariateGaussian().fit(gaussian(MANY, c=4, grid=grid))
    export(model, tmp_path / "model.onnx", image_size=size, sigma=sigma)
    got = run_onnx(tmp_path / "model.onnx", embedding=gaussian(5, c=4, grid=grid))
    want = anomaly_map(got["distances"].astype(float), size, sigma)
    np.testing.assert_allclose(got["anomaly_map"], want, atol=1e-5)


def test_patches_of_which_some_are_singular_are_exported(tmp_path, rng):
    x = np.array(rng.standard_normal((FEW, 24, 4)), np.float32)
    x[..., 1] = 3  # nothing varies, and shrinkage adds nothing
    x[:, 1::2, 2] = x[:, ::2, 2]
    for how in ({"reg_covar": 0}, {"reg_covar": 0, "shrinkage": 0.1}):
        model = quietly(MultiVariateGaussian(**how).fit, x)
        export(model, tmp_path / "model.onnx")
        new = np.array(rng.standard_normal((6, 24, 4)), np.float32)
        got = run_onnx(tmp_path / "model.onnx", embedding=new)["distances"]
        want = model.mahalanobis(new)
        assert (want[:, 1] == 0).all()
        np.testing.assert_allclose(got, want, rtol=1e-5)


def weighted(x):
    return MultiVariateGaussian().fit(x, sample_weight=np.arange(len(x)) % 3)


def streamed(x):
    return MultiVariateGaussian().partial_fit(x[:7]).partial_fit(x[7:])


def parameters(x):
    return MultiVariateGaussian.from_parameters(*MultiVariateGaussian().fit(x))


def part(x):
    return MultiVariateGaussian().fit(x).select(np.s_[:, 1:])


def not_fitted(x):
    return MultiVariateGaussian(n_features=24, n_patches=6)


@pytest.mark.parametrize("make", [weighted, streamed, parameters, part, not_fitted])
@pytest.mark.parametrize("n", [FEW, MANY])
def test_every_kind_of_model_is_exported(make, n, tmp_path):
    model, new = make(gaussian(n)), gaussian(5, seed=1)
    new = new[..., 1:] if make is part else new
    new = new.reshape(5, 24, 6) if make in (parameters, not_fitted) else new
    export(model, tmp_path / "model.onnx")
    got = run_onnx(tmp_path / "model.onnx", embedding=new)["distances"]
    np.testing.assert_allclose(got, model.mahalanobis(new), rtol=bound(100))


def test_parameters_on_a_grid_have_maps(tmp_path):
    model = parameters(gaussian(MANY))
    with pytest.raises(ValueError, match=r"image_size: .* a grid of \(6,\); model.select"):
        export(model, tmp_path / "model.onnx", image_size=8)
    export(model.select(np.arange(6).reshape(2, 3)), tmp_path / "model.onnx", image_size=8)
    got = run_onnx(tmp_path / "model.onnx", embedding=gaussian(5))
    assert got["anomaly_map"].shape == (5, 8, 8)


@pytest.mark.parametrize(
    ("given", "error", "match"),
    [
        ({"model": object()}, TypeError, "model: expected a MultiVariateGaussian, got object"),
        ({"model": MultiVariateGaussian()}, ValueError, "not fitted yet"),
        ({"dtype": "float64"}, ValueError, "dtype: expected float16 or float32, got float64"),
        ({"dtype": int}, TypeError, "dtype: expected a floating dtype"),
        ({"embedder": object()}, TypeError, "embedder: expected a mvgauss.pictures.Embedder, got object"),
        ({"check": "yes"}, TypeError, "check: expected True or False"),
        ({"image_size": 0}, ValueError, "image_size: expected an integer >= 1"),
        ({"image_size": 8, "sigma": -1}, ValueError, "sigma: expected"),
    ],
)
def test_what_cannot_be_exported_is_refused_by_name(given, error, match, tmp_path):
    given = {"model": MultiVariateGaussian().fit(gaussian(MANY)), **given}
    with pytest.raises(error, match=match):
        export(given.pop("model"), tmp_path / "model.onnx", **given)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("scale", [1e-60, 1e60])
def test_numbers_that_single_precision_does_not_hold_are_refused(scale, tmp_path):
    x = np.random.default_rng(0).standard_normal((30, 4)) * scale
    with pytest.raises(ValueError, match="model: expected numbers that single precision holds"):
        export(MultiVariateGaussian(reg_covar=0).fit(x), tmp_path / "model.onnx")


@pytest.mark.parametrize(
    ("constant", "factor"),
    [("rows", 1.1), ("mean", 1.1), ("threshold", 1e6), ("map/rows", 1.1), ("map/columns", 1.1)],
)
@pytest.mark.parametrize("n", [FEW, MANY])
def test_a_file_that_differs_from_the_model_is_refused_and_the_old_one_stays(
    constant, factor, n, tmp_path, monkeypatch
):
    def changed(graph, name, value, add=module._Graph.constant):
        return add(graph, name, np.asarray(value * np.float32(factor)) if name == constant else value)

    model = MultiVariateGaussian().fit(gaussian(n, offset=1.0))
    model.threshold_ = 20.0
    (tmp_path / "model.onnx").write_text("as it was")
    monkeypatch.setattr(module._Graph, "constant", changed)
    with pytest.raises(ValueError, match=r"model: expected \w+ of the file within the bound of the model's"):
        export(model, tmp_path / "model.onnx", image_size=8)
    assert (tmp_path / "model.onnx").read_text() == "as it was"
    assert len(list(tmp_path.iterdir())) == 1


def test_what_the_check_finds_is_returned_and_nothing_without_it(tmp_path, monkeypatch):
    model = MultiVariateGaussian().fit(gaussian(MANY))
    assert 0 < export(model, tmp_path / "model.onnx") < bound(100)
    assert export(model, tmp_path / "model.onnx", check=False) is None
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    assert export(model, tmp_path / "model.onnx") is None


@pytest.mark.parametrize("dtype", [None, "float16"])
@pytest.mark.parametrize("n", [FEW, MANY])
def test_more_than_a_protobuf_holds_is_written_beside_it(n, dtype, tmp_path, monkeypatch):
    model = MultiVariateGaussian(reg_covar=0.3).fit(gaussian(n))
    export(model, tmp_path / "whole.onnx", image_size=8, dtype=dtype)
    monkeypatch.setattr(module, "LARGEST_FILE", 4096)
    export(model, tmp_path / "parts.onnx", image_size=8, dtype=dtype)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["parts.onnx", "parts.onnx.data", "whole.onnx"]
    sizes = [(tmp_path / name).stat().st_size for name in ("parts.onnx", "parts.onnx.data", "whole.onnx")]
    assert sizes[0] < sizes[2] < sizes[0] + sizes[1] + 4096
    new = gaussian(5)
    whole, parts = (run_onnx(tmp_path / f"{name}.onnx", embedding=new) for name in ("whole", "parts"))
    for name, array in whole.items():
        np.testing.assert_array_equal(array, parts[name])


def test_half_precision_is_half_as_large_and_errs_by_less_than_its_bound(tmp_path):
    model, new = MultiVariateGaussian().fit(gaussian(MANY, c=64)), gaussian(9, c=64, seed=1)
    export(model, tmp_path / "single.onnx")
    assert 1e-5 < export(model, tmp_path / "half.onnx", dtype="float16") <= module.HALF_ERROR
    single, half = ((tmp_path / f"{name}.onnx").stat().st_size for name in ("single", "half"))
    assert half < 0.55 * single
    got = run_onnx(tmp_path / "half.onnx", embedding=new)["distances"]
    np.testing.assert_allclose(got, model.mahalanobis(new), rtol=module.HALF_ERROR)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_half_precision_does_not_depend_on_the_unit(scale, tmp_path):
    x = gaussian(MANY) * np.float32(scale)
    model = MultiVariateGaussian(reg_covar=0).fit(x)
    export(model, tmp_path / "half.onnx", dtype="float16")
    got = run_onnx(tmp_path / "half.onnx", embedding=x)["distances"]
    np.testing.assert_allclose(got, model.mahalanobis(x), rtol=module.HALF_ERROR)


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("n", [FEW, MANY])
def test_half_precision_is_refused_where_it_errs_by_more(n, check, tmp_path):
    model = MultiVariateGaussian(reg_covar=1e-8).fit(gaussian(n, condition=1e8))
    with pytest.raises(ValueError, match="dtype: expected float32, as float16 may change a distance"):
        export(model, tmp_path / "half.onnx", dtype="float16", check=check)


def test_half_arrays_of_another_program_are_taken_as_they_are(tmp_path, rng):
    """As `torch.linalg.inv` gives them: not symmetric in the last bits, and so in half precision."""
    p, c = 784, 20
    pairs = np.kron(np.eye(c // 2), np.ones((2, 2)))
    s = np.where(pairs, rng.uniform(0.9, 0.99, (p, 1, 1)), 0) * (1 - np.eye(c)) + 1.01001 * np.eye(c)
    inverse = np.linalg.inv(s) * (1 + 3e-7 * rng.standard_normal((p, c, c)))
    mean = rng.standard_normal((c, p))
    half = mean.astype(np.float16), inverse.astype(np.float32).astype(np.float16)
    model = MultiVariateGaussian.from_parameters(*half)
    x = rng.standard_normal((3, c, p)).astype(np.float32)
    want = MultiVariateGaussian.from_parameters(mean, np.linalg.inv(s)).mahalanobis(x)
    np.testing.assert_allclose(model.mahalanobis(x), want, rtol=5e-3)
    export(model, tmp_path / "model.onnx")
    got = run_onnx(tmp_path / "model.onnx", embedding=x)["distances"]
    np.testing.assert_allclose(got, model.mahalanobis(x), rtol=1e-5)
