"""Suggests the next points and stops the hopeless trials.

Doors, the modules that other rooms may import: study, pruning, ending, warm_start, ranking (``Outcome``), dominance,
objective_study, own_sampler, optuna_samplers, population.
"""
