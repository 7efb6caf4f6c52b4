"""What a machine's own noise does to comparisons made on it."""
