"""mmtools: independent commands that make markets on Polymarket and look after everything around the maker."""

__version__ = "0.4.0"
