"""Suggests the next points and stops the hopeless trials.

Doors, the modules that other rooms may import: study, pruning, ordered_costs, ending, warm_start, dominance,
ranking (``Outcome``), objective_study, own_sampler, optuna_samplers, population.
"""
