"""The command line: each verb parses, calls one function, prints.

Doors, the modules that other rooms may import: none; only ``sweeper/__main__.py`` and the installed program
``sweeper`` come in, through ``app.main``.
"""
