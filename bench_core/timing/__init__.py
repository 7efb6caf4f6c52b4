"""Run one case in its own process: build it, check it, time it, and watch for disturbances."""
