"""Keeps the truth about every sweep.

Doors, the modules that other rooms may import: protocol, opening, memory (for tests), probe, common
(``sort_trials``).
"""
