"""Many runs over months: where a series of their medians steps."""
