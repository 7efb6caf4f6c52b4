"""Run everywhere: one task on each of many machines, whose runs are verified and gathered into one folder."""
