"""Runs commands of the openstack client, each in a process that has it loaded already.

A line of JSON with the arguments in, a line with the exit status and what was printed out.
"""
import contextlib
import io
import json
import os
import sys

from openstackclient import shell
from openstackclient.volume import client  # noqa: F401, for its weight
import cinderclient.v3.client  # noqa: F401
import openstack.connection  # noqa: F401


def run(args):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = shell.main(args)
        except SystemExit as e:  # argparse, of arguments that it does not know
            code = e.code
    print(json.dumps({'code': code, 'out': out.getvalue(), 'err': err.getvalue()}), flush=True)


for line in sys.stdin:
    child = os.fork()
    if child == 0:
        run(json.loads(line))
        os._exit(0)
    os.waitpid(child, 0)
