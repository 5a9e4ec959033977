"""Reads sweep files.

Doors, the modules that other rooms may import: parse, models, dataset, goals, own_metrics, inputs, warm, stored,
user_code, user_files, notify, objective_file, own_code, phases, population.
"""
