"""What this computer is: its parts, its driver, its environment, and what is known of such devices."""
