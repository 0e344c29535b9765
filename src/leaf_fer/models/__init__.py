"""What ships: the classifier and its parts."""

from leaf_fer.models.architecture import Architecture, build_classifier
from leaf_fer.models.attachment import EAFHead, attach_eaf
from leaf_fer.models.card import card_text, shared_facts, write_card
from leaf_fer.models.classifier import Classifier
from leaf_fer.models.eaf import EAF
from leaf_fer.models.forward import frozen_statistics, guess, single_precision, together
from leaf_fer.models.freezing import freeze
from leaf_fer.models.reading import pretrained, read_start
from leaf_fer.models.starting import Start, fill, save_start
from leaf_fer.models.weights import Card, load_model, save_model

__all__ = [
    "EAF",
    "Architecture",
    "Card",
    "Classifier",
    "EAFHead",
    "Start",
    "attach_eaf",
    "build_classifier",
    "card_text",
    "fill",
    "freeze",
    "frozen_statistics",
    "guess",
    "load_model",
    "pretrained",
    "read_start",
    "save_model",
    "save_start",
    "shared_facts",
    "single_precision",
    "together",
    "write_card",
]
