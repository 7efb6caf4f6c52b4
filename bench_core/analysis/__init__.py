"""Evaluate rows: the data of reports, the summary at the end of a run, and the check of a machine."""
