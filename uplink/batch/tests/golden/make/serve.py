"""Has librdkafka consume every ours-*.bin with CRC checks on, and compares with the .txt beside it. Run as
`python3 make/serve.py .` from tests/golden; exits 1 on a difference."""

import struct
import sys
import time
from pathlib import Path

import capture
from confluent_kafka import Consumer, TopicPartition

capture.APIS = {0: (0, 7), 1: (0, 4), 2: (1, 1), 3: (0, 4), 10: (0, 0), 18: (0, 0)}


class Server(capture.Broker):
    """Adds Fetch v4 of one file's bytes, as they are."""

    def __init__(self, data, end):
        self.data, self.end = data, end
        super().__init__()

    def answer(self, key, version, body):
        if key == 10:
            return struct.pack(">hi", 15, -1) + capture.string(b"") + struct.pack(">i", -1)
        if key != 1:
            return super().answer(key, version, body)
        name = struct.unpack_from(">h", body, 21)[0]
        offset = struct.unpack_from(">q", body, 23 + name + 4 + 4)[0]
        data = self.data if offset < self.end else b""
        if not data:
            time.sleep(0.1)
        out = struct.pack(">ii", 0, 1) + capture.string(capture.TOPIC)
        out += struct.pack(">iihqqii", 1, 0, 0, self.end, self.end, -1, len(data))
        return out + data


def text(data):
    return "null" if data is None else f'"{data.hex()}"'


def consume(path):
    lines = path.with_suffix(".txt").read_text().splitlines()
    expected = [line for line in lines if line.startswith("record")]
    first = dict(part.split("=") for part in lines[0].split()[1:])
    server = Server(path.read_bytes(), int(first["last"]) + 1)
    errors = []
    consumer = Consumer({"bootstrap.servers": f"127.0.0.1:{server.port}", "group.id": "golden",
                         "check.crcs": True, "enable.auto.commit": False, "enable.partition.eof": True,
                         "auto.offset.reset": "error", "error_cb": errors.append})
    consumer.assign([TopicPartition("golden", 0, int(first["base"]))])
    found, deadline = [], time.monotonic() + 15
    while time.monotonic() < deadline:
        message = consumer.poll(0.2)
        if message is None:
            continue
        if message.error():
            if message.error().name() == "_PARTITION_EOF":
                break
            sys.exit(f"{path.name}: {message.error()}")
        line = f"record {message.offset()} {message.timestamp()[1]} {text(message.key())} {text(message.value())}"
        for name, value in message.headers() or []:
            line += f" {text(name.encode())}={text(value)}"
        found.append(line)
    else:
        sys.exit(f"{path.name}: no end after {len(found)} records, {errors}")
    consumer.close()
    if found != expected:
        wrong = next((pair for pair in zip(found, expected) if pair[0] != pair[1]), None)
        sys.exit(f"{path.name}: {len(found)} of {len(expected)} records, first difference {wrong}")
    print(path.name, len(found))


for path in sorted(Path(sys.argv[1]).glob(sys.argv[2] if len(sys.argv) > 2 else "ours-*.bin")):
    consume(path)
