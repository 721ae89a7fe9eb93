"""Calls on threads that never keep the program alive."""

import queue
import signal
import threading

# How many requests are under way at once.
WIDTH = 8

# What ends() yields when nothing has ended for a while.
TICK = None


class Crew:
    """Runs calls, at most width at once.

    An interrupt is raised in the main thread, at any line of it. So that none of the
    calls' results is lost then, the threads that make the calls keep the books. They are
    daemons: a program that is interrupted twice ends, whatever its requests wait for.
    """

    def __init__(self, calls, width=WIDTH):
        self._calls = list(calls)
        self._width = min(width, len(self._calls))
        self._todo = queue.SimpleQueue()
        for i in range(len(self._calls)):
            self._todo.put(i)
        self._woken = queue.SimpleQueue()
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._working = 0
        self.ended = {}  # by index: (value, error)

    def start(self):
        """Begin. Interrupts that come meanwhile are raised at its end."""
        # The threads inherit the mask, so all later ones go to the main thread too.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            for _ in range(self._width):
                thread = threading.Thread(target=self._work, daemon=True)
                with self._lock:
                    self._working += 1
                thread.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def stop(self):
        """Begin no other call; those under way go on."""
        self._stopped.set()

    def ends(self, tick=0.2):
        """Yield the index of each call as it ends, TICK after that many seconds without
        one, until none is under way. It can be interrupted and called again.
        """
        while self._working or not self._woken.empty():
            try:
                index = self._woken.get(timeout=tick)
            except queue.Empty:
                yield TICK
                continue
            if index is not None:
                yield index

    def values(self):
        """Values of the calls that succeeded, in the order of the calls."""
        return [v for _, (v, e) in sorted(self.ended.items()) if e is None]

    def _work(self):
        while not self._stopped.is_set():
            try:
                index = self._todo.get_nowait()
            except queue.Empty:
                break
            try:
                self.ended[index] = (self._calls[index](), None)
            except Exception as e:  # for whoever asked for the call
                self.ended[index] = (None, e)
            self._woken.put(index)
        with self._lock:
            self._working -= 1
        self._woken.put(None)


def run(calls, on_tick=lambda done: None):
    """Make all calls; returns [(value, error)] in their order."""
    crew = Crew(calls)
    crew.start()
    for _ in crew.ends():
        on_tick(len(crew.ended))
    return [crew.ended[i] for i in range(len(crew.ended))]
