"""Uses a broker with paho-mqtt as people do, and prints `ok WHAT` for each part that worked.

usage: use_paho.py 3.1.1|5 URL [CA]     URL: mqtt://, mqtts://, ws:// or wss://HOST:PORT

A session that outlives its connection, retained messages, a will, a shared subscription, and on 5
request and response.
"""
import queue
import socket
import sys
import time
from urllib.parse import urlparse

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

VERSION, URL = sys.argv[1], urlparse(sys.argv[2])
CA = sys.argv[3] if len(sys.argv) > 3 else None
FIVE = VERSION == "5"
RUN = f"use/paho-{VERSION}-{URL.scheme}"
PATIENCE_S = 30


class Client:
    """A connected client whose messages stand in a queue."""

    def __init__(self, name, clean=True, will=None):
        web = URL.scheme in ("ws", "wss")
        settings = {} if FIVE else {"clean_session": clean}
        self.inner = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2, client_id=f"{RUN}/{name}",
            protocol=mqtt.MQTTv5 if FIVE else mqtt.MQTTv311,
            transport="websockets" if web else "tcp", **settings)
        self.messages, self.events = queue.Queue(), queue.Queue()
        if URL.scheme in ("mqtts", "wss"):
            self.inner.tls_set(ca_certs=CA)
        if will:
            self.inner.will_set(*will)
        self.inner.on_message = lambda _c, _u, message: self.messages.put(message)
        self.inner.on_connect = lambda _c, _u, flags, reason, _p: self.events.put((reason, flags))
        self.inner.on_subscribe = lambda _c, _u, _mid, reasons, _p: self.events.put(reasons)
        settings = {}
        if FIVE:
            settings = {"clean_start": clean, "properties": Properties(PacketTypes.CONNECT)}
            settings["properties"].SessionExpiryInterval = 0 if clean else 300
        self.inner.connect(URL.hostname, URL.port, keepalive=30, **settings)
        self.inner.loop_start()
        reason, flags = self.events.get(timeout=PATIENCE_S)
        assert not reason.is_failure, reason
        self.session_present = flags.session_present

    def subscribe(self, filter, qos):
        if FIVE:
            self.inner.subscribe(filter, options=SubscribeOptions(qos=qos))
        else:
            self.inner.subscribe(filter, qos)
        reasons = self.events.get(timeout=PATIENCE_S)
        assert [r.value for r in reasons] == [qos], reasons

    def publish(self, topic, payload, qos, retain=False, properties=None):
        self.inner.publish(topic, payload, qos, retain, properties).wait_for_publish(PATIENCE_S)

    def get(self, count):
        """The next messages, and that no other follows."""
        got = [self.messages.get(timeout=PATIENCE_S) for _ in range(count)]
        try:
            raise AssertionError(f"one more: {self.messages.get(timeout=0.3).topic}")
        except queue.Empty:
            return got

    def leave(self):
        self.inner.disconnect()
        self.inner.loop_stop()


def ok(what):
    print(f"ok {what}", flush=True)


def session():
    other = Client("session-publisher")
    sleeper = Client("session", clean=False)
    assert not sleeper.session_present
    sleeper.subscribe(f"{RUN}/session/#", 2)
    sleeper.leave()
    for n in range(40):
        other.publish(f"{RUN}/session/{n % 3}", str(n), 1 + n % 2)
    sleeper = Client("session", clean=False)
    assert sleeper.session_present
    got = sleeper.get(40)
    # paho hands a QoS 2 message on at its PUBREL, so each QoS has an order of its own (4.6).
    for qos in (1, 2):
        numbers = [int(m.payload) for m in got if m.qos == qos]
        assert numbers == list(range(qos - 1, 40, 2)), numbers
    sleeper.leave()
    sleeper = Client("session", clean=True)
    assert not sleeper.session_present
    sleeper.get(0)
    sleeper.leave()
    other.leave()
    ok("a session outlives its connection, its messages come once and in order")


def retained():
    writer = Client("retained-writer")
    for n in range(5):
        writer.publish(f"{RUN}/state/é{n}", f"first {n}", 1, retain=True)
        writer.publish(f"{RUN}/state/é{n}", f"state {n}", 1, retain=True)
    writer.publish(f"{RUN}/state/é4", "", 1, retain=False)
    writer.publish(f"{RUN}/state/é3", "", 1, retain=True)
    reader = Client("retained-reader")
    reader.subscribe(f"{RUN}/state/+", 1)
    got = sorted((m.topic, m.payload) for m in reader.get(4))
    assert got == [(f"{RUN}/state/é{n}", f"state {n}".encode()) for n in (0, 1, 2, 4)], got
    for n in range(5):
        writer.publish(f"{RUN}/state/é{n}", "", 1, retain=True)
    writer.leave()
    reader.leave()
    ok("retained messages: the last one, deleted by an empty retained one alone")


def will():
    watcher = Client("will-watcher")
    watcher.subscribe(f"{RUN}/will", 1)
    for orderly in (True, False):
        client = Client("will", will=(f"{RUN}/will", "gone", 1, False))
        if orderly:
            client.leave()
        else:
            client.inner.loop_stop()
            wire = client.inner.socket()
            # In a WebSocket the library wraps it.
            getattr(wire, "_socket", wire).shutdown(socket.SHUT_RDWR)
    assert [m.payload for m in watcher.get(1)] == [b"gone"]
    watcher.leave()
    ok("a will goes out when a client is lost, not when it leaves")


def shared():
    members = [Client(f"member-{n}") for n in range(3)]
    for member in members:
        member.subscribe(f"$share/workers/{RUN}/jobs/#", 1)
    publisher = Client("jobs")
    for n in range(30):
        publisher.publish(f"{RUN}/jobs/{n}", str(n), 1)
    until = time.monotonic() + PATIENCE_S
    while sum(m.messages.qsize() for m in members) < 30 and time.monotonic() < until:
        time.sleep(0.01)
    shares = [m.messages.qsize() for m in members]
    every = sorted(int(m.payload) for member in members for m in member.get(member.messages.qsize()))
    assert every == list(range(30)) and min(shares) > 0, shares
    for client in [*members, publisher]:
        client.leave()
    ok("a shared subscription: each job to one worker, all of them at work")


def request():
    server, asker = Client("server"), Client("asker")
    server.subscribe(f"{RUN}/ask", 1)
    asker.subscribe(f"{RUN}/answer", 1)
    properties = Properties(PacketTypes.PUBLISH)
    properties.ResponseTopic, properties.CorrelationData = f"{RUN}/answer", b"\x00\xff7"
    properties.UserProperty = [("b", "1"), ("a", "2"), ("b", "3")]
    properties.MessageExpiryInterval, properties.ContentType = 100, "text/plain"
    asker.publish(f"{RUN}/ask", "?", 1, properties=properties)
    question = server.get(1)[0].properties
    assert question.UserProperty == [("b", "1"), ("a", "2"), ("b", "3")]
    assert 90 <= question.MessageExpiryInterval <= 100 and question.ContentType == "text/plain"
    answer = Properties(PacketTypes.PUBLISH)
    answer.CorrelationData = question.CorrelationData
    server.publish(question.ResponseTopic, "!", 1, properties=answer)
    assert asker.get(1)[0].properties.CorrelationData == b"\x00\xff7"
    server.leave()
    asker.leave()
    ok("request and response, properties in order")


session()
retained()
will()
shared()
if FIVE:
    request()
