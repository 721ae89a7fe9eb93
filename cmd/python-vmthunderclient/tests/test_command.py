"""The real openstack command with the package installed, against a small cloud.

VMTHUNDERCLIENT_PATH names an installed copy; without it one is installed for the run.
"""

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

from tests import cloud

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
OPENSTACK = ['/usr/bin/python3', '/usr/bin/openstack']


def setUpModule():
    global place, home
    home = tempfile.mkdtemp(prefix='vmthunderclient-')
    unittest.addModuleCleanup(shutil.rmtree, home)
    place = os.environ.get('VMTHUNDERCLIENT_PATH')
    if not place:
        place = os.path.join(home, 'site')
        source = os.path.join(home, 'source')  # a build leaves things in its source
        shutil.copytree(HERE, source)
        subprocess.run(
            ['/usr/bin/python3', '-m', 'pip', 'install', '--quiet', '--no-index', '--no-deps', '--no-build-isolation',
             '--root-user-action=ignore', '--target', place, source],
            check=True, env={'PATH': '/usr/bin:/bin', 'HOME': home})


class Case(unittest.TestCase):
    maxDiff = None

    def cloud(self, **kw):
        c = cloud.Cloud(**kw)
        self.addCleanup(c.close)
        return c

    def start(self, c, *args, stock=False, stderr=subprocess.PIPE):
        env = dict(c.env(), PATH='/usr/bin:/bin', HOME=home, LANG='C.UTF-8', COLUMNS='200', TERM='xterm')
        if not stock:
            env['PYTHONPATH'] = place
        # Who runs these tests in the background ignores SIGINT, and so would the command.
        return subprocess.Popen(OPENSTACK + ['volume', 'create', *args], env=env, text=True,
                                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
                                stdout=subprocess.PIPE, stderr=stderr, stdin=subprocess.DEVNULL)

    def run_(self, c, *args, stock=False):
        p = self.start(c, *args, stock=stock)
        out, err = p.communicate(timeout=120)
        return p.returncode, out, err

    def ok(self, c, *args, status=0):
        code, out, err = self.run_(c, *args)
        self.assertEqual(code, status, err)
        return out, err


class TestAsTheStockCommand(Case):
    """Without --count nothing differs: output, requests, exit status."""

    def test_same(self):
        for args in (
            ['--size', '2', 'one'],
            ['--size', '4', '--image', 'ubuntu12', '--type', 'fast', '--property', 'a=b', '--property', 'c=d',
             '--hint', 'near=x', '--availability-zone', 'z', '--description', 'words', '--read-only', '--bootable', 'two'],
            ['--size', '2', '-f', 'json', '-c', 'id', '-c', 'name', 'three'],
            ['--size', '2', '-f', 'value', '-c', 'id', 'four'],
            ['--size', '2', '-f', 'shell', '--prefix', 'v_', 'five'],
            ['--size', '2', '-f', 'yaml', 'six'],
            ['seven'],
            ['--size', '2', '--image', 'nowhere', 'eight'],
            ['--size', '2', '--snapshot', 'nowhere', 'nine'],
        ):
            with self.subTest(' '.join(args)):
                ran = []
                for stock in True, False:
                    c = self.cloud(quota=5)
                    ran.append((self.run_(c, *args, stock=stock), c.log, c.bodies))
                self.assertEqual(ran[0], ran[1])

    def test_same_when_refused(self):
        ran = []
        for stock in True, False:
            c = self.cloud(quota=0)
            ran.append((self.run_(c, '--size', '1', 'x', stock=stock), c.log))
        self.assertEqual(ran[0], ran[1])
        self.assertEqual(ran[1][0][0], 1)

    def test_size_and_name_are_optional(self):
        c = self.cloud()
        out, _ = self.ok(c, '--image', 'ubuntu12', '-f', 'json')
        v = json.loads(out)
        self.assertEqual((v['size'], v['name']), (3, None))
        code, out, err = self.run_(c, '--image', 'odd', 'x')
        self.assertEqual((code, out), (1, ''))
        self.assertIn('give --size', err)
        self.assertEqual(len(c.volumes), 1)

    def test_wait(self):
        c = self.cloud()
        c.creating = 1.5
        out, _ = self.ok(c, '--size', '1', '--wait', '-f', 'value', '-c', 'status', 'x')
        self.assertEqual(out, 'available\n')


class TestBatch(Case):
    """A server with the extension: one request."""

    def test_hundred(self):
        c = self.cloud(batches=True)
        out, err = self.ok(c, '--image', 'ubuntu12', '--count', '100', '--type', 'fast', '--property', 'a=b', '--hint', 'near=x', 'vm')
        self.assertEqual(err, '')
        self.assertEqual([l for l in c.log if l.startswith('POST')], ['POST /volume/v3/P/volumes/batch'])
        self.assertEqual(c.bodies, [{'volume': {'volume_type': 'fast', 'metadata': {'a': 'b'}, 'imageRef': cloud.IMAGE},
                                     'count': 100, 'name_template': 'vm-{}', 'OS-SCH-HNT:scheduler_hints': {'near': 'x'}}])
        lines = out.splitlines()
        self.assertEqual(len(lines), 104)
        self.assertEqual(lines[1].split(), '| ID | Name | Status | Size |'.split())
        self.assertEqual(lines[102].split(), ['|', 'dddddddd-0000-0000-0000-000000000100', '|', 'vm-100', '|', 'creating', '|', '3', '|'])

    def test_formats(self):
        c = self.cloud(batches=True)
        out, _ = self.ok(c, '--size', '2', '--count', '2', '-f', 'json', 'a-{}-b')
        self.assertEqual(json.loads(out), [
            {'ID': 'dddddddd-0000-0000-0000-00000000000%d' % i, 'Name': 'a-%d-b' % i, 'Status': 'creating', 'Size': 2} for i in (1, 2)])
        out, _ = self.ok(c, '--size', '2', '--count', '1', '-f', 'value', '-c', 'id', '-c', 'Properties', '--property', 'a=b', 'x')
        self.assertEqual(out, "dddddddd-0000-0000-0000-000000000003 {'a': 'b'}\n")
        out, _ = self.ok(c, '--size', '2', '--count', '2', '-f', 'csv', '--quote', 'none', '-c', 'Name', '-c', 'Size')
        self.assertEqual(out.split(), ['Name,Size', ',2', ',2'])

    def test_command_lines_that_are_wrong_make_nothing(self):
        c = self.cloud(batches=True)
        for args, text in (
            (['--count', '0', '--size', '1', 'x'], 'invalid count value'),
            (['--count', 'many', '--size', '1', 'x'], 'invalid count value'),
            (['--count', '2', '--size', '1', '-f', 'shell', 'x'], "invalid choice with --count: 'shell'"),
            (['--count', '2', '--size', '1', '-c', 'Colour', 'x'], "invalid choice with --count: 'Colour'"),
            (['--partial', '--size', '1', 'x'], '--partial: needs --count'),
            (['--size', '1', '-f', 'csv', 'x'], "invalid choice: 'csv'"),
            (['--count', '2', '--image', 'a', '--source', 'b', 'x'], 'not allowed with'),
        ):
            with self.subTest(' '.join(args)):
                code, out, err = self.run_(c, *args)
                self.assertEqual((code, out), (2, ''), err)
                self.assertIn(text, err)
        for args, text in (
            (['--count', '2', 'x'], '--size is a required option'),
            (['--count', '2', '--image', 'nowhere', 'x'], 'No Image found for nowhere'),
        ):
            code, out, err = self.run_(c, *args)
            self.assertEqual((code, out), (1, ''), err)
            self.assertIn(text, err)
        self.assertFalse([l for l in c.log if not l.startswith('GET')])

    def test_quota(self):
        c = self.cloud(batches=True, quota=60)
        code, out, err = self.run_(c, '--size', '1', '--count', '100', 'vm')
        self.assertEqual((code, out, len(c.volumes)), (1, '', 0))
        self.assertRegex(err, r'^No volume was made: VolumeLimitExceeded: .*\(60\).*HTTP 413.*With --partial as many as fit')
        out, err = self.ok(c, '--size', '1', '--count', '100', '--partial', '-f', 'json', 'vm', status=3)
        self.assertEqual((len(json.loads(out)), len(c.volumes)), (60, 60))
        self.assertIn('60 of 100 volumes were made, the other 40 were not: VolumeLimitExceeded', err)
        code, out, err = self.run_(c, '--size', '1', '--count', '100', '--partial', 'vm')
        self.assertEqual((code, out), (1, ''))
        self.assertNotIn('With --partial', err)

    def test_wait(self):
        c = self.cloud(batches=True)
        c.creating = 2
        out, _ = self.ok(c, '--size', '1', '--count', '20', '--wait', '-f', 'value', '-c', 'Status', 'vm')
        self.assertEqual(out.split(), ['available'] * 20)
        self.assertLess(len(c.log), 20 + 10)
        c.fail_status, c.creating = 'error', 0
        out, err = self.ok(c, '--size', '1', '--count', '2', '--wait', '-f', 'value', '-c', 'Status', 'vm', status=1)
        self.assertEqual(out.split(), ['error'] * 2)
        self.assertIn('2 of 2 volumes are not available: the image is broken', err)

    def test_interrupt(self):
        """What the server has made before it answers is deleted."""
        c = self.cloud(batches=True)
        c.hold.clear()
        p = self.start(c, '--size', '1', '--count', '30', 'vm')
        self.assertTrue(c.arrived.wait(60))
        p.send_signal(signal.SIGINT)
        line = p.stderr.readline()
        self.assertIn('Interrupted', line)
        c.hold.set()
        out, err = p.communicate(timeout=60)
        self.assertEqual((p.returncode, out, len(c.volumes), len(c.gone)), (130, '', 0, 30), err)

    def test_interrupt_twice(self):
        c = self.cloud(batches=True)
        c.hold.clear()
        p = self.start(c, '--size', '1', '--count', '30', 'vm')
        self.assertTrue(c.arrived.wait(60))
        p.send_signal(signal.SIGINT)
        p.stderr.readline()
        p.send_signal(signal.SIGINT)
        out, err = p.communicate(timeout=60)
        self.assertEqual((p.returncode, out), (130, ''))
        self.assertIn('all were made or none', err)

    def test_lost_answer(self):
        c = self.cloud(batches=True)
        c.hang_up = True
        code, out, err = self.run_(c, '--size', '1', '--count', '3', 'vm')
        self.assertEqual((code, out, len(c.volumes)), (1, '', 3))
        self.assertIn('The answer was lost, so all 3 volumes were made or none', err)

    def test_progress_on_a_terminal(self):
        c = self.cloud(batches=True)
        c.creating = 3
        main, side = pty.openpty()
        p = self.start(c, '--size', '1', '--count', '5', '--wait', '-f', 'value', '-c', 'ID', 'vm', stderr=side)
        os.close(side)
        out, _ = p.communicate(timeout=60)
        seen = os.read(main, 100000).decode()
        os.close(main)
        self.assertEqual((p.returncode, len(out.split())), (0, 5))
        self.assertRegex(seen, r'\r0 of 5 volumes are available, \d s')
        self.assertTrue(seen.endswith('\r'), seen)


class TestStockCinder(Case):
    """A server without the extension: single requests, undone if not all succeed."""

    def test_all(self):
        c = self.cloud()
        c.pace = 0.02
        out, err = self.ok(c, '--image', 'ubuntu12', '--count', '40', '-f', 'json', '--bootable', 'vm')
        self.assertEqual([v['Name'] for v in json.loads(out)], ['vm-%d' % i for i in range(1, 41)])
        self.assertEqual({v['Size'] for v in json.loads(out)}, {3})
        self.assertEqual(len([l for l in c.log if l == 'POST /volume/v3/P/volumes']), 40)
        self.assertEqual(len([l for l in c.log if l.endswith('/action')]), 40)
        self.assertNotIn('POST /volume/v3/P/volumes/batch', c.log)
        self.assertTrue(1 < c.most <= 8, c.most)

    def test_quota(self):
        """Cinder deletes no volume that is being made, so the undo has to come back."""
        c = self.cloud(quota=60)
        c.creating = 1.0
        code, out, err = self.run_(c, '--size', '1', '--count', '100', 'vm')
        self.assertEqual((code, out, len(c.volumes), len(c.gone)), (1, '', 0, 60), err)
        self.assertRegex(err, 'No volume was made: VolumeLimitExceeded: .*With --partial')

    def test_partial(self):
        c = self.cloud(quota=6)
        out, err = self.ok(c, '--size', '1', '--count', '10', '--partial', '-f', 'json', 'vm', status=3)
        self.assertEqual((len(json.loads(out)), len(c.volumes)), (6, 6))
        self.assertIn('6 of 10 volumes were made, then: VolumeLimitExceeded', err)

    def test_failure_in_between(self):
        c = self.cloud()
        c.fails = (12, 500)
        code, out, err = self.run_(c, '--size', '1', '--count', '30', 'vm')
        self.assertEqual((code, out, len(c.volumes), len(c.gone)), (1, '', 0, 11), err)
        self.assertIn('It broke.', err)

    def test_interrupt(self):
        c = self.cloud()
        c.pace = 0.3
        p = self.start(c, '--size', '1', '--count', '100', 'vm')
        self.assertTrue(c.arrived.wait(60))
        p.send_signal(signal.SIGINT)
        out, err = p.communicate(timeout=60)
        self.assertEqual((p.returncode, out, len(c.volumes)), (130, '', 0), err)
        self.assertEqual(len(c.gone), c.n)
        self.assertLess(c.n, 100)


if __name__ == '__main__':
    sys.exit(unittest.main())
