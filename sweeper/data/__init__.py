"""Makes a table ready to train on.

Doors, the modules that other rooms may import: dataset, loading, folds, recipe, recent, source, numerals, given,
memory.
"""
