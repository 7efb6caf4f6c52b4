"""Many cases: kept as they come, repeated, written at the end."""
