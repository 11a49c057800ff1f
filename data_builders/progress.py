"""Progress of long work: count, rate and remaining time."""

from __future__ import annotations

import sys

from tqdm import tqdm

# A terminal redraws its line. A log file keeps every line, so there are fewer.
_LOG_INTERVAL_S = 10.0


class Progress:
    """A progress line on stderr: redrawn on a terminal, one line each interval elsewhere."""

    def __init__(self, total: int, label: str, *, unit: str, initial: int = 0) -> None:
        self._total, self._label, self._unit, self._initial = total, label, unit, initial
        self._bar: tqdm | None = None
        self._depth = 0

    def __enter__(self) -> Progress:
        self._depth += 1
        if self._bar is None:
            live = sys.stderr.isatty()
            line = "{desc}: {n_fmt}/{total_fmt} {elapsed}<{remaining}, {rate_fmt}{postfix}"
            self._bar = tqdm(
                total=self._total,
                initial=self._initial,
                desc=self._label,
                unit=f" {self._unit}",
                bar_format=None if live else line + "\n",
                mininterval=0.2 if live else _LOG_INTERVAL_S,
                dynamic_ncols=live,
                position=None if live else 0,  # a log file has no cursor to move
            )
        return self

    def __exit__(self, error: object = None, *_: object) -> None:
        self._depth -= 1
        if self._bar is None or self._depth:
            return
        # After an error the line ends here: behind the message, nobody would know what it means.
        if self._bar.n >= self._total or error is not None:
            self.close()

    def advance(self, count: int = 1) -> None:
        """Counts work that is done."""
        if self._bar is not None:
            self._bar.update(count)

    @property
    def done(self) -> int:
        """Number of units that are counted so far."""
        return 0 if self._bar is None else self._bar.n

    def show(self, **numbers: float) -> None:
        """Shows numbers behind the rate, from the next time that the line is drawn."""
        if self._bar is not None:
            self._bar.set_postfix(numbers, refresh=False)

    def close(self) -> None:
        """Ends the line."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
