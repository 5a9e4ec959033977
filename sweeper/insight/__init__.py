"""Says what the trials of a sweep teach, in numbers and sentences; writes no file, draws no picture.

Doors, the modules that other rooms may import: results, finals, judging, test_rows, goals_view, pareto, headline,
findings, winner_check, winner_again, data_notes, noise, advice, baselines, calibration, ensemble, comparison, contest,
fused, factors (the report draws them), captions, and for the live page course, live, pictures.
"""
