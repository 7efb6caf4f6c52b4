"""Measure the noise of a machine and its effect on comparisons."""
