"""What the package warns of; each can be filtered, or turned into an error, by its class."""

from __future__ import annotations


class DefaultThresholdWarning(UserWarning):
    """A decision by a limit that nobody set, for a model without an exact distribution."""


class FewSamplesWarning(UserWarning):
    """Covariances of no more samples than features, without shrinkage."""


class PictureWarning(UserWarning):
    """An array that looks like pictures, where embeddings are expected."""
