"""Draws the answer of a sweep.

Doors, the modules that other rooms may import: gather, page, comparison, figures, notebook.
"""
