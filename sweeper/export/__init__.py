"""Writes the trials and the winner for other programs.

Doors, the modules that other rooms may import: writing, optuna_study (``check_not_ours``).
"""
