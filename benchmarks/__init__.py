"""Measurements of the engine, the driver and whole sweeps beside what a user would pick instead."""
