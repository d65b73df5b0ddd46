"""Write the model files of format version 1, and what the version that wrote them answers.

Run with mvgauss 0.1.0, the last version that writes this format, in the folder of this file:

    python make_v1.py

Every answer stands in ``v1_answers.npz`` as ``<file>.<name>``, with the embeddings it belongs to.
"""

from pathlib import Path

import numpy as np

from mvgauss import MultiVariateGaussian as Model

FOLDER = Path(__file__).parent


def embedding(seed, n, c, *grid, dtype=np.float64):
    """Return embeddings with another mean and other variances at every patch."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, c, *grid)) * rng.uniform(0.5, 2, (c, *grid)) + rng.normal(0, 3, (c, *grid))
    return x.astype(dtype)


def deficient(seed):
    """Return embeddings of 5 features, some patches of rank 4 and 3."""
    x = embedding(seed, 14, 5, 2, 3)
    x[:, 1, 0, 0] = 2.0  # a constant
    x[:, 3, 1, 2] = x[:, 0, 1, 2]  # a copy
    x[:, 2:4, 0, 1] = -1.0, 4.0
    return x


def streamed(train, more):
    """Return a model of three batches, with weights; its factors are not made yet."""
    w = np.linspace(0.25, 3, len(train))
    model = Model(ddof=0.5)
    for part in np.array_split(np.arange(len(train)), 3):
        model.partial_fit(train[part], sample_weight=w[part])
    return model


def calibrated(train, more):
    """Return a model with leave-one-out distances, and a limit."""
    model = Model(reg_covar=0.05).fit(train).calibrate(train)
    model.threshold(train, 0.25, source="training")
    return model


def given(train, more):
    """Return a model of parameters, one of its inverses of deficient rank."""
    mean = train.mean(axis=0).reshape(train.shape[1], -1)
    inverse = Model(reg_covar=0.5).fit(train).inv_covariance
    inverse[1] = np.diag([0.5, 0.0, 2.0, 0.0])
    return Model.from_parameters(mean, inverse)


#: name: (training embeddings, more of them, how the model is made, how it is saved)
MODELS = {
    "default": (
        embedding(1, 12, 4, 2, 3),
        embedding(2, 5, 4, 2, 3),
        lambda x, more: Model().fit(x),
        {},
    ),
    "not_resumable": (
        embedding(3, 12, 4, 2, 3),
        embedding(4, 5, 4, 2, 3),
        lambda x, more: Model(ddof=0).fit(x),
        {"resumable": False},
    ),
    "single": (
        embedding(5, 12, 4, 2, 3, dtype=np.float32),
        embedding(6, 5, 4, 2, 3, dtype=np.float32),
        lambda x, more: Model(n_features=4, n_patches=6).fit(x),
        {},
    ),
    "single_not_resumable": (
        embedding(7, 12, 4, 2, 3, dtype=np.float32),
        embedding(8, 5, 4, 2, 3, dtype=np.float32),
        lambda x, more: Model().fit(x),
        {"resumable": False},
    ),
    "computed_in_single": (
        embedding(9, 30, 3, 2, 2),
        embedding(10, 5, 3, 2, 2),
        lambda x, more: Model(dtype="float32", reg_covar=0.1).fit(x),
        {},
    ),
    "ledoit_wolf": (
        embedding(11, 7, 5, 2, 2),
        embedding(12, 5, 5, 2, 2),
        lambda x, more: Model(shrinkage="ledoit_wolf").fit(x),
        {},
    ),
    "oas_tokens": (
        np.moveaxis(embedding(13, 8, 4, 5), 1, -1),
        np.moveaxis(embedding(14, 5, 4, 5), 1, -1),
        lambda x, more: Model(shrinkage="oas", reg_covar=0, feature_axis=-1).fit(x),
        {},
    ),
    "streamed": (embedding(15, 15, 4, 2, 3), embedding(16, 5, 4, 2, 3), streamed, {}),
    "calibrated": (embedding(17, 12, 3, 2, 2), embedding(18, 5, 3, 2, 2), calibrated, {}),
    "from_parameters": (embedding(19, 12, 4, 3), embedding(20, 5, 4, 3), given, {}),
    "pseudo_inverse": (
        deficient(21),
        deficient(22)[:5],
        lambda x, more: Model(reg_covar=0).fit(x),
        {},
    ),
    "fewer_samples_than_features": (
        embedding(23, 4, 8, 2),
        embedding(24, 5, 8, 2),
        lambda x, more: Model().fit(x),
        {},
    ),
    "table": (embedding(25, 20, 3), embedding(26, 5, 3), lambda x, more: Model(reg_covar=0).fit(x), {}),
    "identity": (
        embedding(27, 4, 2, 3),
        embedding(28, 5, 2, 3),
        lambda x, more: Model(2, 3),
        {},
    ),
}


def main():
    """Write all of them."""
    answers = {}
    for name, (train, more, make, how) in MODELS.items():
        model = make(train, more)
        model.save(FOLDER / f"v1_{name}.npz", **how)
        probes = np.concatenate([train[:3] + 0.25, more])
        said = {
            "train": train,
            "more": more,
            "probes": probes,
            "mean": model.mean,
            "covariance": model.covariance,
            "rank": model.rank,
            "mahalanobis": model.mahalanobis(probes),
            "score_samples": model.score_samples(probes),
        }
        if name == "calibrated":
            said |= {
                "p_value": model.p_value(probes),
                "threshold_": model.threshold_,
                "predict": model.predict(probes),
            }
        # weights of version 1 were relative, those of later versions count samples: their streams differ
        if not how and name not in ("from_parameters", "identity", "streamed"):
            model.partial_fit(more)
            said |= {"mahalanobis_with_more": model.mahalanobis(probes), "rank_with_more": model.rank}
        answers |= {f"{name}.{key}": value for key, value in said.items()}
    np.savez_compressed(FOLDER / "v1_answers.npz", **answers)


if __name__ == "__main__":
    main()
