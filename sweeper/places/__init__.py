"""Where a verb is carried out: on this machine or on a server.

Doors, the modules that other rooms may import: place, here, there; http (for ``doctor``).
"""
