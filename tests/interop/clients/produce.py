"""Produces with confluent-kafka or kafka-python, every codec and both kinds of acks.

usage: produce.py confluent|kafka-python BOOTSTRAP TOPIC RECORDS

Each codec's records carry its name; prints one JSON object per delivered record. A transactional id
must be refused with an error, not with a hang.
"""
import json
import sys

LIBRARY, BOOTSTRAP, TOPIC, COUNT = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]


def row(key, value):
    print(json.dumps({"topic": key.hex(), "value": value.hex(), "headers": [["68", "fffe"]]}))


def rows(codec):
    for n in range(COUNT):
        yield f"{LIBRARY}-{codec}-{n % 7}".encode(), f"{LIBRARY} {codec} {n} ".encode() * 5


def confluent():
    import confluent_kafka
    for codec in CODECS:
        for idempotent in (False, True):
            delivered = []

            def on_delivery(error, message):
                if error:
                    sys.exit(f"confluent-kafka {codec}: {error}")
                delivered.append(message)

            producer = confluent_kafka.Producer({
                "bootstrap.servers": BOOTSTRAP, "compression.type": codec, "linger.ms": 20,
                "enable.idempotence": idempotent, "acks": "all" if idempotent else "1",
                "client.id": "confluent-producer"})
            for key, value in rows(codec):
                value += b"idempotent" if idempotent else b"plain"
                producer.produce(TOPIC, value, key, headers=[("h", b"\xff\xfe")], on_delivery=on_delivery)
            if producer.flush(30):
                sys.exit(f"confluent-kafka {codec}: not delivered in 30 s")
            for message in delivered:
                row(message.key(), message.value())
    producer = confluent_kafka.Producer({"bootstrap.servers": BOOTSTRAP, "transactional.id": "t"})
    try:
        producer.init_transactions(10)
        sys.exit("confluent-kafka: a transactional id was accepted")
    except confluent_kafka.KafkaException as error:
        print("transactional id:", error, file=sys.stderr)


def kafka_python():
    from kafka import KafkaProducer
    for codec in CODECS:
        producer = KafkaProducer(bootstrap_servers=BOOTSTRAP, linger_ms=20, acks="all", enable_idempotence=codec == "lz4",
                                 compression_type=None if codec == "none" else codec, client_id="kafka-python-producer")
        sent = [(producer.send(TOPIC, value, key, headers=[("h", b"\xff\xfe")]), key, value) for key, value in rows(codec)]
        producer.flush(30)
        for future, key, value in sent:
            future.get(10)
            row(key, value)
        producer.close()


{"confluent": confluent, "kafka-python": kafka_python}[LIBRARY]()
