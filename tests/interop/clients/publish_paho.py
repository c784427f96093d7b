"""Publishes with paho-mqtt and prints one JSON object per acknowledged message.

usage: publish_paho.py 3.1.1|5 HOST PORT MESSAGES [tcp|websockets [CA-FILE]]

Topics: five sensors under interop/paho-VERSION/, one of them not ASCII. QoS 1 and 2 in turn.
Payloads: JSON with a sequence number, every tenth empty-but-keyed bytes that are not UTF-8.
"""
import json
import sys
import threading

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

VERSION, HOST, PORT, COUNT = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
TRANSPORT, CA = (sys.argv[5:] + ["tcp", None][len(sys.argv) - 5:])[:2]
FIVE = VERSION == "5"
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=f"paho-{VERSION}",
                     protocol=mqtt.MQTTv5 if FIVE else mqtt.MQTTv311, transport=TRANSPORT)
if CA:
    client.tls_set(ca_certs=CA)
client.max_inflight_messages_set(20)
client.max_queued_messages_set(0)
connected, waiting, done = threading.Event(), {}, threading.Event()
acknowledged = []
lock = threading.Lock()


def on_connect(_client, _userdata, _flags, reason, _properties):
    if reason.is_failure:
        sys.exit(f"paho: CONNACK {reason}")
    connected.set()


def on_publish(_client, _userdata, mid, reason, _properties):
    if reason.is_failure:
        print(f"paho: PUBACK {reason}", file=sys.stderr)
        return
    with lock:
        acknowledged.append(mid)
        if len(acknowledged) == COUNT:
            done.set()


client.on_connect, client.on_publish = on_connect, on_publish
client.connect(HOST, PORT, keepalive=30)
client.loop_start()
if not connected.wait(10):
    sys.exit("paho: no CONNACK in 10 s")
rows = {}
for n in range(COUNT):
    sensor = ["a", "b", "c", "d", "später"][n % 5]
    topic = f"interop/paho-{VERSION}/{sensor}"
    payload = b"\xff\x00\xfe" + n.to_bytes(4, "big") if n % 10 == 9 else json.dumps(
        {"ts": 1763800000000 + n, "sensor": sensor, "seq": n}).encode()
    headers, properties = [], None
    if FIVE:
        properties = Properties(PacketTypes.PUBLISH)
        properties.UserProperty = [("unit", "C"), ("run", str(n)), ("unit", "K")]
        headers = [["unit", "C"], ["run", str(n)], ["unit", "K"]]
        if n % 3 == 0:
            properties.ContentType = "application/json"
    info = client.publish(topic, payload, qos=1 + n % 2, properties=properties)
    rows[info.mid] = {"topic": topic.encode().hex(), "value": payload.hex(),
                      "headers": [[k.encode().hex(), v.encode().hex()] for k, v in headers]}
    info.wait_for_publish(30) if n % 50 == 49 else None
if not done.wait(60):
    sys.exit(f"paho: {len(acknowledged)} of {COUNT} acknowledged in 60 s")
client.disconnect()
client.loop_stop()
for mid in sorted(rows):
    print(json.dumps(rows[mid]))
