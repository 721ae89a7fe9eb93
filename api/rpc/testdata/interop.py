"""The other side of the interop tests: a genuine oslo.messaging.

interop.py server URL TOPIC   an RPC server; prints "ready" when it listens
interop.py client URL TOPIC   calls, casts and fans out; prints a line of JSON for each result
interop.py listen URL TOPIC   prints a line for each notification
"""
import json
import logging
import os
import sys
import time

import oslo_messaging
from oslo_config import cfg

mode, url, topic = sys.argv[1:]
logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
conf = cfg.CONF  # where oslo.messaging registers its own options, as in every service
conf([], project="interop", default_config_files=[])


class ThingNotFound(Exception):
    pass


ThingNotFound.__module__ = "vmthunder.exception"


class Endpoint(object):
    target = oslo_messaging.Target(version="1.2")

    def add(self, ctxt, a, b):
        return {"sum": a + b, "user": ctxt.get("user"), "text": "Gr\u00fc\u00dfe <&> \U0001f600"}

    def fail(self, ctxt):
        raise ThingNotFound("thing 7 is away")

    def slow(self, ctxt, seconds):
        time.sleep(seconds)
        return "done"

    def note(self, ctxt, text):
        print(json.dumps({"note": text}), flush=True)


def server():
    transport = oslo_messaging.get_rpc_transport(conf, url=url)
    target = oslo_messaging.Target(topic=topic, server="python")
    srv = oslo_messaging.get_rpc_server(transport, target, [Endpoint()], executor="threading")
    srv.start()
    print("ready", flush=True)
    sys.stdin.read()
    os._exit(0)


def client():
    transport = oslo_messaging.get_rpc_transport(conf, url=url)
    target = oslo_messaging.Target(topic=topic, version="1.0")
    rpc = oslo_messaging.get_rpc_client(transport, target, timeout=20)
    ctxt = {"user": "python-user", "request_id": "req-py", "roles": ["admin"], "auth_token": None}
    one = rpc.prepare(server="go")

    def show(name, f):
        try:
            out = {"result": f()}
        except Exception as e:
            out = {"class": type(e).__name__, "message": getattr(e, "value", None) or str(e)}
            if isinstance(e, oslo_messaging.RemoteError):
                out["remote"] = e.exc_type
        out["name"] = name
        print(json.dumps(out), flush=True)

    show("call", lambda: one.call(ctxt, "add", a=2, b=3))
    show("any", lambda: rpc.call(ctxt, "add", a=4, b=5))
    show("sentinel", lambda: one.call(ctxt, "missing"))
    show("plain", lambda: one.call(ctxt, "plain"))
    show("method", lambda: one.call(ctxt, "nothing"))
    show("monitor", lambda: rpc.prepare(server="go", call_monitor_timeout=2, timeout=20).call(ctxt, "slow"))
    one.cast(ctxt, "hit", text="cast")
    rpc.prepare(fanout=True).cast(ctxt, "hit", text="fanout")
    show("end", lambda: one.call(ctxt, "add", a=0, b=0))
    os._exit(0)


class Listener(object):
    def info(self, ctxt, publisher_id, event_type, payload, metadata):
        print(json.dumps({"event_type": event_type, "publisher_id": publisher_id, "payload": payload,
                          "user": ctxt.get("user"), "token": ctxt.get("auth_token"),
                          "timestamp": metadata["timestamp"]}), flush=True)


def listen():
    transport = oslo_messaging.get_notification_transport(conf, url=url)
    listener = oslo_messaging.get_notification_listener(
        transport, [oslo_messaging.Target(topic=topic)], [Listener()], executor="threading")
    listener.start()
    print("ready", flush=True)
    sys.stdin.read()
    os._exit(0)


{"server": server, "client": client, "listen": listen}[mode]()
