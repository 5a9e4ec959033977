"""The name that was probably meant: by the words of the field first, then by letters."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence

NEAR = 0.75  # difflib's ratio from which two names are near in letters
_ROWS = ("val_", "test_", "train_")

# what others call it -> what it is called here, the likelier name first
_CALLED: Mapping[str, str] = {
    # metrics
    "acc": "accuracy",
    "error_rate error accuracy_score": "accuracy",
    "auc auroc roc roc_auc_score area_under_curve": "roc_auc",
    "ap auprc pr_auc prauc aucpr average_precision_score": "average_precision",
    "f1_score fscore f_score f1_binary": "f1 f1_macro",
    "macro_f1 f1_score_macro f1_weighted f1_micro": "f1_macro",
    "bacc balanced_acc balanced_accuracy_score": "balanced_accuracy",
    "matthews matthews_corrcoef phi": "mcc",
    "brier_score brier_score_loss": "brier",
    "nll cross_entropy crossentropy xent bce logloss": "log_loss loss",
    "mse l2_loss mean_squared_error squared_error": "loss",
    "root_mean_squared_error": "rmse",
    "l1 l1_loss mean_absolute_error absolute_error": "mae",
    "medae median_error": "median_absolute_error",
    "rsquared r_squared r2_score explained_variance coefficient_of_determination": "r2",
    "mean_absolute_percentage_error percentage_error": "mape",
    "params n_params n_parameters num_parameters size": "parameters",
    "time duration runtime": "seconds",
    "min minimise smaller lower ascending": "minimize",
    "max maximise larger higher descending": "maximize",
    # hyperparameters and their values
    "lr eta alpha step_size learning_rate_init": "learning_rate",
    "wd l2 decay l2_penalty regularization": "weight_decay",
    "init initializer initialiser initialisation weight_init kernel_initializer": "initialization",
    "opt optim optimiser": "optimizer",
    "act act_fn nonlinearity activation_function": "activation",
    "layers hidden hidden_sizes hidden_layer_sizes hidden_units n_hidden architecture": "hidden_layers",
    "n_layers num_layers layer_count": "depth hidden_layers",
    "layer_size hidden_size units n_units": "width hidden_layers",
    "bs batch minibatch batchsize": "batch_size",
    "clip grad_clip gradient_clipping clip_grad clip_grad_norm max_grad_norm max_norm": "clip_norm",
    "drop dropout_rate drop_rate dropout_prob p_dropout keep_prob": "dropout",
    "beta_1": "beta1",
    "beta_2": "beta2",
    "kaiming kaiming_normal kaiming_normal_ he": "he_normal",
    "kaiming_uniform kaiming_uniform_": "he_uniform",
    "xavier glorot glorot_uniform xavier_uniform_": "xavier_uniform",
    "glorot_normal xavier_normal_": "xavier_normal",
    "gaussian": "normal",
    "zero constant": "zeros",
    "swish": "silu",
    "logistic": "sigmoid",
    "lrelu leakyrelu": "leaky_relu",
    "nag nesterov_momentum sgd_momentum heavy_ball": "momentum",
    "gd vanilla": "sgd",
    # sections and keys
    "n_epochs num_epochs max_epochs iterations": "epochs",
    "n_trials num_trials max_trials budget": "trials",
    "random_state random_seed": "seed",
    "time_limit max_time time_budget": "timeout",
    "early_stopping n_iter_no_change": "patience",
    "scaler scaling normalization normalisation standardize preprocessing": "normalize",
    "n_bins num_bins max_bins": "bins",
    "ple piecewise piecewise_linear_encoding": "piecewise_linear",
    "add_indicator missing_indicators": "missing_indicator",
    "quantile_transformer quantile_normal": "quantile",
    "num_embeddings embeddings numerical_embedding numeric_embeddings": "numeric_embedding",
    "periodic periodic_embeddings": "plr",
    "n_frequencies num_frequencies plr_hidden_1": "frequencies",
    "d_embedding embedding_dim plr_hidden_2": "embedding_size",
    "sigma plr_sigma frequency_init_scale": "frequency_scale",
    "categorical_embedding category_embedding_size cat_embedding": "category_embedding",
    "max_one_hot_cat_size one_hot_max_size": "max_one_hot",
    "cv kfold k_folds n_folds n_splits": "folds",
    "reps repeats n_seeds": "replicates",
    "sample_weight sample_weights row_weight": "weight",
    "class_weight": "class_weights",
    "scheduler lr_scheduler lr_schedule learning_rate_schedule": "schedule",
    "reduce_lr_on_plateau": "plateau",
    "warmup warm_up warmup_steps n_warmup": "warmup_epochs",
    "onecycle one_cycle_lr super_convergence": "one_cycle",
    "cosine_annealing annealing": "cosine",
    "smoothing label_smooth": "label_smoothing",
    "layernorm layer_norm layer_normalization batchnorm batch_norm batch_normalization": "normalization",
    "skip skip_connections residual_connections resnet": "residual",
    "parameterization parametrisation neural_tangent": "parametrization",
    "ema weight_averaging averaging polyak swa": "ema_decay",
    "label y target_column": "target",
    "file filename csv data_file": "path",
    "val valid dev validation_fraction validation_size val_size": "validation",
    "test_size test_fraction holdout": "test",
    "data": "dataset",
    "search_space": "space",
    "train": "training",
    "goal": "objective",
    "metric": "objective metrics",
    "scaler scaling normalise normalization normalisation": "normalize",
    "zscore z_score standardize standardise standard_scaler": "standard",
    "min_max minmax_scaler": "minmax",
    "null off no": "none",
    # searching
    "bayes bayesian bo": "tpe gp",
    "gaussian_process": "gp",
    "random_search": "random",
    "grid_search": "grid",
    "cma cma_es": "cmaes",
    "qmc quasi_random": "sobol",
    "successive_halving sha": "halving asha",
    "bohb": "hyperband",
}
_SYNONYMS = {alias: meant.split() for aliases, meant in _CALLED.items() for alias in aliases.split()}
# known things that are something else than the name that looks like theirs
_SOMETHING_ELSE = (
    *("radam", "adamax", "adadelta", "adafactor", "lion", "lamb"),
    *("celu", "prelu", "relu6", "softmax", "softplus"),
    *("precision", "recall"),
)


def nearest(name: object, valid: Iterable[object]) -> str:
    """A remedy sentence: the name that means the same, else one that differs by a slip, else the list of names.

    What is near in letters but known to be something else is never suggested.
    """
    names = [str(v) for v in valid]
    found = meant_by(str(name)[:100], names)
    return f"Did you mean {found!r}?" if found is not None else f"Valid: {', '.join(names) or '(nothing)'}"


def meant_by(name: str, names: Sequence[str]) -> str | None:
    """The one of ``names`` that ``name`` probably stands for, if any does."""
    rows, word = _parted(name.strip().lower().replace("-", "_").replace(" ", "_"))
    for meant in (word, *_SYNONYMS.get(word, ())):
        for candidate in (rows + meant, meant, *(prefix + meant for prefix in _ROWS)):
            if candidate in names:
                return candidate
    if word in _SOMETHING_ELSE or word in _SYNONYMS:
        return None
    alike = [candidate for candidate in names if rows and candidate.startswith(rows)]
    return _near_in_letters(word, alike) or _near_in_letters(word, names)


def _near_in_letters(word: str, names: Sequence[str]) -> str | None:
    lower = {_parted(candidate.lower())[1]: candidate for candidate in reversed(names)}
    slips = [candidate for candidate in lower if sorted(candidate) == sorted(word)]  # letters that changed places
    close = slips or difflib.get_close_matches(word, lower, n=1, cutoff=NEAR)
    return lower[close[0]] if close else None


def _parted(name: str) -> tuple[str, str]:
    """A metric's ``val_``, ``test_`` or ``train_``, and the rest: the common beginning says nothing of likeness."""
    prefix = next((rows for rows in _ROWS if name.startswith(rows)), "")
    return prefix, name.removeprefix(prefix)
