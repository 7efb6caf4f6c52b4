"""Many runs of one folder over months: a cache for fast questions, SQL over it, series and their changes."""
