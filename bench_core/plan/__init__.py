"""What can run here, and which cases that makes."""
