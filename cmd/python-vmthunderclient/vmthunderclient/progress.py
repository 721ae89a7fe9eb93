"""The line that says how far things are."""

import shutil
import time


class Progress:
    """One line on a terminal that is written over again and again.

    Nothing is ever written where nobody looks (no terminal), nor in the first second:
    what is quick needs no progress.
    """

    def __init__(self, stream, after=1.0, clock=time.monotonic):
        self._stream = stream
        self._clock = clock
        self._start = clock()
        self._after = after
        self._width = 0
        self._on = stream.isatty()

    def show(self, text):
        seconds = self._clock() - self._start
        if not self._on or seconds < self._after:
            return
        text = '%s, %d s' % (text, seconds)
        text = text[:max(20, shutil.get_terminal_size().columns - 1)]
        self._write('\r' + text.ljust(self._width))
        self._width = len(text)

    def clear(self):
        """Leave the line empty, for what is printed next."""
        if self._width:
            self._write('\r' + ' ' * self._width + '\r')
            self._width = 0

    def _write(self, text):
        self._stream.write(text)
        self._stream.flush()
