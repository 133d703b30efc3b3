"""What a market maker thinks. Pure: no files, sockets, clock or chance; time comes in as `now_ms`, chance as a `random.Random`."""
