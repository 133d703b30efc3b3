"""The micro-price: where the mid goes from here on average, learned from this market's own past (Stoikov 2018).

The state of a touch is its imbalance, in five buckets, and its spread, one tick or more. Once a second the view says which
state held and where the mid stood; the transitions between seconds give, for each state, the sum of all moves of the mid that
are still to come (doi:10.1080/14697688.2018.1489139). Every transition counts for its mirror too, so nothing drifts.
Called by `signals` alone. Ticks and counts only.
"""

BUCKETS = 5
STATES = 2 * BUCKETS
FEWEST = 300
"""Transitions before there is an estimate: thirty for each state."""
REFIT_EVERY = 60
MOVES = 6
"""How many moves of the mid are looked ahead; the sum has settled by then."""
STALE_MS = 5_000
"""Two looks that lie farther apart are no transition."""

_Matrix = list[list[float]]


class MicroPrice:
    """Mutable; feed it with `observe`, read it with `above_mid`."""

    def __init__(self) -> None:
        self.transitions = 0
        self._stayed: _Matrix = [[0.0] * STATES for _ in range(STATES)]
        self._moved: _Matrix = [[0.0] * STATES for _ in range(STATES)]
        self._by = [0.0] * STATES
        """Sum of the moves of the mid out of each state, in ticks."""
        self._last: tuple[int, float, int] | None = None
        self._above = [0.0] * STATES

    def observe(self, imbalance: float, spread: int, mid: float, now_ms: int) -> None:
        """Take notice of a good touch: imbalance from -1 to 1, spread and mid in ticks."""
        state = _state(imbalance, spread)
        last, self._last = self._last, (state, mid, now_ms)
        if last is None or now_ms - last[2] > STALE_MS:
            return
        before, move = last[0], mid - last[1]
        self.transitions += 1
        for out, into, by in ((before, state, move), (_mirror(before), _mirror(state), -move)):
            (self._moved if move else self._stayed)[out][into] += 1.0
            self._by[out] += by
        # Here and not when somebody asks: what is read must not depend on who reads how often.
        if self.transitions >= FEWEST and self.transitions % REFIT_EVERY == 0:
            self._above = self._fit()

    def above_mid(self, imbalance: float, spread: int) -> float | None:
        """Return how far the micro-price lies above the mid, in ticks and within the touch; None while too little is known."""
        if self.transitions < FEWEST:
            return None
        # Beyond the touch it would be a price that nobody has offered.
        most = spread / 2 * 0.999
        return max(-most, min(most, self._above[_state(imbalance, spread)]))

    def _fit(self) -> list[float]:
        """Return, per state, the expected sum of the next moves of the mid."""
        stays: _Matrix = []
        goes: _Matrix = []
        first = []
        for stayed, moved, by in zip(self._stayed, self._moved, self._by, strict=True):
            # One more move, of nothing, keeps a state that was never seen to move from waiting for ever.
            seen = sum(stayed) + sum(moved) + 1.0
            stays.append([count / seen for count in stayed])
            goes.append([count / seen for count in moved])
            first.append(by / seen)
        expected = until_moved(stays, first)
        total = expected
        for _ in range(MOVES - 1):
            expected = until_moved(stays, [sum(p * e for p, e in zip(row, expected, strict=True)) for row in goes])
            total = [t + e for t, e in zip(total, expected, strict=True)]
        return total


def until_moved(stays: _Matrix, then: list[float]) -> list[float]:
    """Solve x = then + stays x: what `then` is worth from each state when one may stay for any time first.

    Every row of `stays` sums to less than 1, so plain elimination without pivots is safe.
    """
    rows = [[(i == j) - p for j, p in enumerate(row)] + [value] for i, (row, value) in enumerate(zip(stays, then, strict=True))]
    size = len(rows)
    for i in range(size):
        pivot = rows[i]
        for j in range(i + 1, size):
            factor = rows[j][i] / pivot[i]
            if factor:
                rows[j] = [a - factor * b for a, b in zip(rows[j], pivot, strict=True)]
    solved = [0.0] * size
    for i in reversed(range(size)):
        known = sum(rows[i][j] * solved[j] for j in range(i + 1, size))
        solved[i] = (rows[i][size] - known) / rows[i][i]
    return solved


def _state(imbalance: float, spread: int) -> int:
    bucket = min(int((imbalance + 1.0) / 2.0 * BUCKETS), BUCKETS - 1)
    return bucket + (BUCKETS if spread > 1 else 0)


def _mirror(state: int) -> int:
    wide, bucket = divmod(state, BUCKETS)
    return wide * BUCKETS + BUCKETS - 1 - bucket
