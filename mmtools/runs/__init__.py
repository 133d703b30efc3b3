"""A run: the loop that moves it, and what it leaves on disk."""
