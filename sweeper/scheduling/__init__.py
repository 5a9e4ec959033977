"""Decides what happens next, without clock, thread or SQL.

Doors, the modules that other rooms may import: events, changes, scheduler, shares, window.
"""
