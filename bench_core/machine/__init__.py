"""Facts about this computer: hardware, driver, environment, and reference values for known devices."""
