"""Runs sweeps to their end.

Doors, the modules that other rooms may import: local, open_sweep, controller, custody, finals, leases, planning, run,
parts, arithmetic, comparing, notices.
"""
