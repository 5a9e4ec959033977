"""Trains legs.

Doors, the modules that other rooms may import: legs, blocks, pool, inline_pool, ray_pool, ray_probe, again,
averaging, baselines, child, ensemble, own_facts, own_checks, scores, scoring, objective_legs, objective_words.
"""
