"""What recordings and runs teach: figures with their uncertainty, and pictures of them. It reads; it never trades and keeps no state."""
