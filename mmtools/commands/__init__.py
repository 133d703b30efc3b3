"""One module per command, one `main` each: parse, call, return a Report."""
