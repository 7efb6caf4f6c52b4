"""Find the machines of a fleet that differ from the others."""
