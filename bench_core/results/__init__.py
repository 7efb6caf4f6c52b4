"""Tables of results: convert measurements to rows, and write and read the files of a run."""
