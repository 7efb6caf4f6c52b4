"""Run many cases: record each one, repeat runs, and write the results."""
