"""The name that was probably meant."""

import pytest

from sweeper.models.metric_names import OF_TASK
from sweeper.search_spaces.names import nearest
from sweeper.search_spaces.vocabulary import KNOWN

METRICS = [f"val_{name}" for names in OF_TASK.values() for name in names]


@pytest.mark.parametrize(
    ("name", "valid", "meant"),
    [
        ("val_auc", METRICS, "val_roc_auc"),
        ("auc", METRICS, "val_roc_auc"),
        ("roc_auc", METRICS, "val_roc_auc"),
        ("test_auc", ["test_loss", "test_roc_auc"], "test_roc_auc"),
        ("val_acc", METRICS, "val_accuracy"),
        ("val-f1-score", METRICS, "val_f1"),
        ("mse", METRICS, "val_loss"),
        ("val_los", METRICS, "val_loss"),
        ("val_logloss", METRICS, "val_log_loss"),
        ("kaiming_normal", KNOWN["initialization"].words, "he_normal"),
        ("xavier", KNOWN["initialization"].words, "xavier_uniform"),
        ("glorot_uniform", KNOWN["initialization"].words, "xavier_uniform"),
        ("lr", KNOWN, "learning_rate"),
        ("learning_rte", KNOWN, "learning_rate"),
        ("Adam", KNOWN["optimizer"].words, "adam"),
        ("swish", KNOWN["activation"].words, "silu"),
        ("mpl", ["logistic", "mlp", "wide"], "mlp"),
        ("max", ["minimize", "maximize"], "maximize"),
    ],
)
def test_a_word_of_the_field_and_a_slip_find_the_name_that_is_meant(name, valid, meant):
    assert nearest(name, valid) == f"Did you mean {meant!r}?"


@pytest.mark.parametrize(
    ("name", "valid"),
    [
        ("val_auc", ["val_loss", "train_loss", "val_accuracy"]),
        ("kaiming_normal", ["normal", "xavier_normal"]),
        ("radam", KNOWN["optimizer"].words),
        ("celu", KNOWN["activation"].words),
        ("val_recall", METRICS),
        ("adadelta", KNOWN["optimizer"].words),
        ("", ["a", "b"]),
    ],
)
def test_what_is_near_in_letters_but_not_in_meaning_is_never_suggested(name, valid):
    assert nearest(name, valid) == f"Valid: {', '.join(valid)}"


def test_a_synonym_means_something_that_exists_here():
    from sweeper.search_spaces.names import _SYNONYMS
    from sweeper.spec.parse import SweepSpec
    from sweeper.spec.parse import _keys as keys_at

    sections = ["training", "search", "dataset", "split", "objective", "tracking", "finals", "inputs"]
    keys = {key for section in sections for key in keys_at([section])} | set(SweepSpec.model_fields)
    words = {word for known in KNOWN.values() for word in known.words}
    values = {"minimize", "maximize", "parameters", "seconds", "none", "standard", "minmax"}
    values |= {"tpe", "gp", "cmaes", "sobol", "grid", "random", "halving", "asha", "hyperband"}
    coming = {"patience", "folds", "weight", "class_weights", "metrics"}

    meant = {name for names in _SYNONYMS.values() for name in names}

    assert meant <= keys | words | set(KNOWN) | values | coming | {name.removeprefix("val_") for name in METRICS}
