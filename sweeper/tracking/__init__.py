"""Shows sweeps in MLflow.

Doors, the modules that other rooms may import: tracker, store, check, ui, model (``warm_up``), sweep (``delete_runs``),
trial_files.
"""
