"""The command line: each verb parses, calls one function, prints.

Doors: app (the installed program comes in through ``app.main``; no other room does).
"""
