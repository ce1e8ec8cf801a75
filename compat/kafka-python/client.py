"""Drives kafka-python; orders and printed lines are described in ../README.md."""
import sys
import threading

from kafka import (ConsumerRebalanceListener, KafkaAdminClient, KafkaConsumer, KafkaProducer,
                   TopicPartition)
from kafka.admin import ConfigResource, ConfigResourceType, NewTopic
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata

WAIT_S = 30


def say(*words):
    print(*words, flush=True)


def admin(address, topic):
    client = KafkaAdminClient(bootstrap_servers=address)
    gone = topic + "-gone"
    client.create_topics([NewTopic(topic, 4, 1), NewTopic(gone, 1, 1)])
    say("partitions", len(client.describe_topics([topic])[0]["partitions"]))
    resource = ConfigResource(ConfigResourceType.TOPIC, topic)
    found = client.describe_configs([resource], config_filter="all")
    for name, entry in found["topic"][topic].items():
        say("config", f"{name}={entry['value']}")
    client.delete_topics([gone])
    say("topics", *client.list_topics())


def produce(address, topic, codec):
    codec = None if codec == "none" else codec
    producer = KafkaProducer(bootstrap_servers=address, enable_idempotence=True,
                             compression_type=codec, linger_ms=5)
    failed = []

    def send(value):
        future = producer.send(topic, key=value.encode(), value=value.encode())
        future.add_callback(lambda place: say("acked", place.partition, place.offset, value))
        future.add_errback(failed.append)

    for line in sys.stdin:
        send(line.rstrip("\n"))
    producer.flush(2 * WAIT_S)
    producer.close()
    if failed:
        sys.exit(f"{len(failed)} refused, the first: {failed[0]!r}")


class Forget(ConsumerRebalanceListener):
    """What a rebalance takes away is for its next owner to commit."""

    def __init__(self, pending):
        self.pending = pending

    def on_partitions_revoked(self, revoked):
        for partition in revoked:
            self.pending.pop(partition, None)

    on_partitions_lost = on_partitions_revoked

    def on_partitions_assigned(self, assigned):
        pass


def consume(address, topic, group):
    leave = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), leave.set()), daemon=True).start()
    consumer = KafkaConsumer(bootstrap_servers=address, group_id=group,
                             auto_offset_reset="earliest", enable_auto_commit=False,
                             isolation_level="read_committed", heartbeat_interval_ms=500)
    pending = {}
    consumer.subscribe([topic], listener=Forget(pending))
    while not leave.is_set() or pending:
        for partition, records in consumer.poll(timeout_ms=200).items():
            for record in records:
                say("record", record.partition, record.offset, record.value.decode())
            pending[partition] = OffsetAndMetadata(records[-1].offset + 1, "", -1)
        try:
            if pending:
                consumer.commit(dict(pending))
                for place, at in pending.items():
                    say("committed", place.partition, at.offset)
                pending.clear()
        except KafkaError as error:
            # A rebalance, or the broker is away: the next commit has it.
            print(repr(error), file=sys.stderr)
    consumer.close()


def transact(address, topic, group):
    producer = KafkaProducer(bootstrap_servers=address, transactional_id=topic,
                             max_block_ms=10000)
    producer.init_transactions()

    def send(name):
        for number in range(10):
            value = f"{name}-{number}".encode()
            producer.send(topic, key=value, value=value)

    producer.begin_transaction()
    send("kept")
    producer.commit_transaction()
    producer.begin_transaction()
    send("dropped")
    producer.flush(WAIT_S)
    producer.abort_transaction()
    producer.begin_transaction()
    send("moved")
    places = {TopicPartition(topic, number): OffsetAndMetadata(1, "", -1) for number in range(4)}
    producer.send_offsets_to_transaction(places, group)
    producer.commit_transaction()
    producer.close()
    for place, at in places.items():
        say("committed", place.partition, at.offset)


ORDERS = {"admin": admin, "produce": produce, "consume": consume, "transact": transact}
ORDERS[sys.argv[1]](*sys.argv[2:])
