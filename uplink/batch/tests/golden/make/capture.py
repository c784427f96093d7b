"""Writes the librdkafka-*.bin, kcat-*.bin and kafka-python-*.bin fixtures: a broker of three APIs takes
what the producers send and keeps the record batches. How to run it: README.md beside it."""

import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

T0 = 1_763_800_000_000
TOPIC = b"golden"
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
APIS = {0: (0, 7), 1: (0, 10), 3: (0, 4), 10: (0, 2), 18: (0, 0), 22: (0, 1)}
READING = '{"ts":%d,"sensor":"temp-0%d","value":21.%d,"unit":"C"}'


def string(text):
    return struct.pack(">h", len(text)) + text


class Broker:
    """Answers ApiVersions v0, Metadata v0-4 and Produce v3-7, and nothing else."""

    def __init__(self):
        self.batches = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            connection, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        stream = connection.makefile("rb")
        while len(head := stream.read(4)) == 4:
            request = stream.read(struct.unpack(">i", head)[0])
            key, version, correlation = struct.unpack_from(">hhi", request)
            client = struct.unpack_from(">h", request, 8)[0]
            body = request[10 + max(client, 0):]
            answer = struct.pack(">i", correlation) + self.answer(key, version, body)
            connection.sendall(struct.pack(">i", len(answer)) + answer)

    def answer(self, key, version, body):
        if key == 18:
            rows = b"".join(struct.pack(">hhh", k, *range_) for k, range_ in APIS.items())
            return struct.pack(">hi", 35 if version > 0 else 0, len(APIS)) + rows
        if key == 3:
            return self.metadata(version)
        if key == 0:
            return self.produce(version, body)
        raise ValueError(f"api {key} v{version}")

    def metadata(self, version):
        out = struct.pack(">i", 0) if version >= 3 else b""
        out += struct.pack(">ii", 1, 1) + string(b"127.0.0.1") + struct.pack(">i", self.port)
        out += struct.pack(">h", -1) if version >= 1 else b""
        out += string(b"capture") if version >= 2 else b""
        out += struct.pack(">i", 1) if version >= 1 else b""
        out += struct.pack(">ih", 1, 0) + string(TOPIC) + (b"\0" if version >= 1 else b"")
        return out + struct.pack(">ihii", 1, 0, 0, 1) + struct.pack(">iiii", 1, 1, 1, 1)

    def produce(self, version, body):
        transactional = struct.unpack_from(">h", body)[0]
        at = 2 + max(transactional, 0) + 2 + 4 + 4
        name = struct.unpack_from(">h", body, at)[0]
        at += 2 + name + 4 + 4
        size = struct.unpack_from(">i", body, at)[0]
        self.batches.append(body[at + 4:at + 4 + size])
        out = struct.pack(">i", 1) + string(TOPIC) + struct.pack(">iihqq", 1, 0, 0, 0, -1)
        return out + (struct.pack(">q", 0) if version >= 5 else b"") + struct.pack(">i", 0)

    def take(self):
        taken, self.batches = self.batches, []
        return b"".join(taken)


def records():
    """(timestamp, key, value, headers): the same corner cases that GoldenMake.java has."""
    edge = [("edge", b"gw-1")]
    yield T0, b"temp-07", b"21.43", edge
    yield T0 + 1, None, None, []
    yield T0 + 2, b"", b"", [("h", None), ("dup", b"a"), ("dup", b"b"), ("bin", b"\0\xff\x80")]
    yield T0 - 5000, "schlüssel/ключ".encode(), b"earlier than the first", []
    yield T0 + 70_000_000_000, b"far", b"x" * 300, []
    for i in range(5, 25):
        yield T0 + 50 * i, b"site/3/temp-%d" % (i % 7), (READING % (T0 + 50 * i, i % 7, i)).encode(), edge


def librdkafka(broker, codec):
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": f"127.0.0.1:{broker.port}", "compression.codec": codec,
                         "linger.ms": 300, "acks": 1})
    for timestamp, key, value, headers in records():
        producer.produce(TOPIC.decode(), value=value, key=key, headers=headers, partition=0,
                         timestamp=timestamp)
    if producer.flush(10):
        sys.exit(f"librdkafka {codec}: not flushed")


def kafka_python(broker, codec):
    from kafka import KafkaProducer

    producer = KafkaProducer(bootstrap_servers=f"127.0.0.1:{broker.port}", linger_ms=300, acks=1,
                             compression_type=None if codec == "none" else codec, api_version=(2, 1),
                             enable_idempotence=False)
    for timestamp, key, value, headers in records():
        # It takes no null header values, and no record without both key and value.
        headers = [(name, value or b"") for name, value in headers]
        producer.send(TOPIC.decode(), value=value or b"", key=key, headers=headers, partition=0,
                      timestamp_ms=timestamp)
    producer.flush(10)
    producer.close(5)


def kcat(broker, codec):
    lines = b"".join(b"site/3/temp-%d:%s\n" % (i % 7, (READING % (T0, i % 7, i)).encode()) for i in range(20))
    subprocess.run(["kcat", "-P", "-b", f"127.0.0.1:{broker.port}", "-t", "golden", "-p", "0", "-K:", "-z",
                    codec, "-H", "edge=gw-1", "-X", "linger.ms=300", "-X", "enable.idempotence=false"],
                   input=lines, check=True, timeout=20)


def main():
    folder = Path(sys.argv[1])
    broker = Broker()
    for produce in (librdkafka, kafka_python, kcat):
        for codec in CODECS:
            if produce is kcat and codec not in ("none", "zstd"):
                continue
            produce(broker, codec)
            taken = broker.take()
            name = f"{produce.__name__.replace('_', '-')}-{codec}.bin"
            (folder / name).write_bytes(taken)
            print(name, len(taken))


if __name__ == "__main__":
    main()
