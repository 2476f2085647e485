"""Features of a small classifier trained on the data at hand, and what is measured in them."""

from gentok.measure.features.classifier import (
    SmallClassifier,
    accuracy,
    embeddings,
    train_classifier,
)
from gentok.measure.features.perceptual import perceptual_distance
from gentok.measure.features.weights import CLASSIFIERS, load_classifier

__all__ = [
    "CLASSIFIERS",
    "SmallClassifier",
    "accuracy",
    "embeddings",
    "load_classifier",
    "perceptual_distance",
    "train_classifier",
]
