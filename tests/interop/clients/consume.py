"""Reads a topic with confluent-kafka or kafka-python, as one consumer or as a group.

usage: consume.py confluent|kafka-python BOOTSTRAP TOPIC RECORDS MEMBERS GROUP

Prints one JSON object a record; keys, values and headers in hex. Ends when the records have come
and nothing more came for two seconds; exits 1 when they have not come in 90 seconds.
"""
import json
import sys
import threading
import time

LIBRARY, BOOTSTRAP, TOPIC, WANTED, MEMBERS, GROUP = sys.argv[1:7]
WANTED, MEMBERS = int(WANTED), int(MEMBERS)
lock = threading.Lock()
seen = 0
assigned = set()
deadline = time.monotonic() + 90


def hex_or_none(data):
    return None if data is None else bytes(data).hex()


def emit(member, partition, offset, timestamp, key, value, headers):
    global seen
    pairs = [[k.encode().hex(), hex_or_none(v)] for k, v in headers or []]
    row = dict(member=member, partition=partition, offset=offset, timestamp=timestamp,
               key=hex_or_none(key), value=hex_or_none(value), headers=pairs)
    with lock:
        seen += 1
        print(json.dumps(row), flush=True)


def run(poll, assignment, close, member):
    quiet_since = time.monotonic()
    while time.monotonic() < deadline:
        if poll():
            quiet_since = time.monotonic()
        if assignment():
            assigned.add(member)
        if seen >= WANTED and len(assigned) >= MEMBERS and time.monotonic() - quiet_since > 2:
            break
    close()


def confluent(member):
    import confluent_kafka
    consumer = confluent_kafka.Consumer({
        "bootstrap.servers": BOOTSTRAP, "group.id": GROUP, "client.id": member,
        "auto.offset.reset": "earliest", "enable.auto.commit": False, "check.crcs": True,
        "error_cb": lambda error: print("confluent:", error, file=sys.stderr),
    })
    consumer.subscribe([TOPIC])

    def poll():
        messages = consumer.consume(500, 0.1)
        for m in messages:
            if m.error():
                raise SystemExit(f"confluent-kafka: {m.error()}")
            emit(member, m.partition(), m.offset(), m.timestamp()[1], m.key(), m.value(), m.headers())
        return messages

    def close():
        try:
            consumer.commit(asynchronous=False)
        except confluent_kafka.KafkaException as error:
            # A member that read nothing has nothing to commit.
            if error.args[0].code() != confluent_kafka.KafkaError._NO_OFFSET:
                raise
        consumer.close()

    run(poll, consumer.assignment, close, member)


def kafka_python(member):
    from kafka import KafkaConsumer
    consumer = KafkaConsumer(
        TOPIC, bootstrap_servers=BOOTSTRAP, group_id=GROUP, client_id=member,
        auto_offset_reset="earliest", enable_auto_commit=False, check_crcs=True)

    def poll():
        batches = consumer.poll(timeout_ms=100)
        for records in batches.values():
            for r in records:
                emit(member, r.partition, r.offset, r.timestamp, r.key, r.value, r.headers)
        return batches

    def close():
        consumer.commit()
        consumer.close()

    run(poll, consumer.assignment, close, member)


client = {"confluent": confluent, "kafka-python": kafka_python}[LIBRARY]
failed = []


def guarded(member):
    try:
        client(member)
    except BaseException:
        failed.append(member)
        raise


threads = [threading.Thread(target=guarded, args=(f"{LIBRARY}-{n}",)) for n in range(MEMBERS)]
for t in threads:
    t.start()
for t in threads:
    t.join()
if failed or seen < WANTED:
    sys.exit(f"{LIBRARY}: {seen} of {WANTED} records")
