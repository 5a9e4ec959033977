"""The service of a team: a runner, an HTTP server, and the parent that keeps both alive.

Doors, the modules that other rooms may import: processes (``serve``), auth (the token verbs).
"""
