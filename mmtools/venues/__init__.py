"""The markets outside: feeds that bring rows, venues that take orders."""
