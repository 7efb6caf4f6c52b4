"""One case: built, checked, timed and watched, in a process of its own."""
