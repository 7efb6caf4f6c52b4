"""Tables: measurements become rows, rows become files, and files become rows again."""
