"""The parts, without a server."""

import io
import os
import signal
import threading
import types
import unittest

from osc_lib import exceptions

from vmthunderclient import crew
from vmthunderclient import progress
from vmthunderclient import wanted

GIB = 1 << 30


class Terminal(io.StringIO):
    def isatty(self):
        return True


class TestWanted(unittest.TestCase):
    def test_names(self):
        self.assertEqual(wanted.names('vm', 3), ['vm-1', 'vm-2', 'vm-3'])
        self.assertEqual(wanted.names('vm-{}-root', 2), ['vm-1-root', 'vm-2-root'])
        self.assertEqual(wanted.names(None, 2), [None, None])

    def test_image_size(self):
        def size(**kw):
            return wanted.image_size(types.SimpleNamespace(**dict(
                dict(id='i', size=1, virtual_size=None, min_disk=0, disk_format='raw'), **kw)))
        self.assertEqual(size(), 1)
        self.assertEqual(size(size=2 * GIB), 2)
        self.assertEqual(size(size=2 * GIB + 1), 3)
        self.assertEqual(size(min_disk=7), 7)
        self.assertEqual(size(disk_format='qcow2', virtual_size=5 * GIB), 5)
        with self.assertRaisesRegex(exceptions.CommandError, 'give --size'):
            size(disk_format='qcow2')

    def test_batch_body(self):
        body = wanted.batch_body({'size': None, 'imageRef': 'i', 'metadata': {'a': 'b'}, 'scheduler_hints': None}, 'vm', 3, False)
        self.assertEqual(body, {'volume': {'imageRef': 'i', 'metadata': {'a': 'b'}}, 'count': 3, 'name_template': 'vm-{}'})
        body = wanted.batch_body({'size': 2, 'scheduler_hints': {'x': 'y'}}, None, 1, True)
        self.assertEqual(body, {'volume': {'size': 2}, 'count': 1, 'partial': True, 'OS-SCH-HNT:scheduler_hints': {'x': 'y'}})


class TestProgress(unittest.TestCase):
    def test_only_on_a_terminal_and_only_when_it_takes_long(self):
        now = [0.0]
        for stream, want in ((io.StringIO(), ''), (Terminal(), '\rlonger text, 2 s\rshort, 61 s     \r           \r')):
            now[0] = 0.0
            line = progress.Progress(stream, clock=lambda: now[0])
            line.show('never seen')
            line.clear()
            now[0] = 2.5
            line.show('longer text')
            now[0] = 61
            line.show('short')
            line.clear()
            line.clear()
            self.assertEqual(stream.getvalue(), want)


class TestCrew(unittest.TestCase):
    def test_all_end_and_errors_are_handed_out(self):
        def fail():
            raise ValueError('x')
        a, b, c = crew.run([lambda: 1, fail, lambda: 3])
        self.assertEqual((a, c), ((1, None), (3, None)))
        self.assertIsInstance(b[1], ValueError)
        self.assertEqual(crew.run([]), [])

    def test_stop_begins_no_other(self):
        go, begun = threading.Event(), []

        def call(i):
            begun.append(i)
            go.wait()
            return i
        c = crew.Crew([lambda i=i: call(i) for i in range(50)], width=3)
        c.start()
        for end in c.ends(tick=0.01):
            if end is crew.TICK and len(begun) == 3:
                c.stop()
                go.set()
        self.assertEqual((sorted(begun), c.values()), ([0, 1, 2], [0, 1, 2]))

    def test_an_interrupt_loses_no_result(self):
        go = threading.Event()
        c = crew.Crew([go.wait] * 20, width=4)
        with self.assertRaises(KeyboardInterrupt):
            c.start()
            for end in c.ends(tick=0.01):
                go.set()
                if end is not crew.TICK:
                    raise KeyboardInterrupt
        for _ in c.ends():
            pass
        self.assertEqual(c.values(), [True] * 20)

    def test_an_interrupt_while_it_starts_comes_after(self):
        c = crew.Crew([lambda: os.kill(os.getpid(), signal.SIGINT) or 7] * 3)
        with self.assertRaises(KeyboardInterrupt):
            c.start()
            for _ in c.ends():
                pass
        while True:
            try:
                for _ in c.ends():
                    pass
                break
            except KeyboardInterrupt:
                pass
        self.assertEqual(c.values(), [7] * 3)


if __name__ == '__main__':
    unittest.main()
