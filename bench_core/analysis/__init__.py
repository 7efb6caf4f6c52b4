"""What rows say: of contenders, for a report and at the end of a run, and of a machine."""
