"""Plan a run: find the backends and devices of this machine, and the cases to measure on them."""
