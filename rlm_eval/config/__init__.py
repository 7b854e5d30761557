"""A run's configuration: composed, checked, built."""
