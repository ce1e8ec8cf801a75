"""Drives confluent-kafka; orders and printed lines are described in ../README.md."""
import sys
import threading

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic

WAIT_S = 30


def say(*words):
    print(*words, flush=True)


def wait_all(futures):
    for future in futures.values():
        future.result(WAIT_S)


def admin(address, topic):
    client = AdminClient({"bootstrap.servers": address})
    gone = topic + "-gone"
    wait_all(client.create_topics([NewTopic(topic, 4, 1), NewTopic(gone, 1, 1)]))
    metadata = client.list_topics(topic, timeout=WAIT_S)
    say("partitions", len(metadata.topics[topic].partitions))
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
    for future in client.describe_configs([resource]).values():
        for config in future.result(WAIT_S).values():
            say("config", f"{config.name}={config.value}")
    wait_all(client.delete_topics([gone]))
    say("topics", *client.list_topics(timeout=WAIT_S).topics)


def produce(address, topic, codec):
    failed = []

    def delivered(error, message):
        if error:
            failed.append(error)
        else:
            say("acked", message.partition(), message.offset(), message.value().decode())

    producer = Producer({"bootstrap.servers": address, "enable.idempotence": True,
                         "compression.type": codec, "linger.ms": 5})
    for line in sys.stdin:
        value = line.rstrip("\n")
        producer.produce(topic, key=value, value=value, on_delivery=delivered)
        producer.poll(0)
    left = producer.flush(2 * WAIT_S)
    if failed or left:
        sys.exit(f"{len(failed)} refused, the first: {failed[:1]}; {left} not answered")


def consume(address, topic, group):
    leave = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), leave.set()), daemon=True).start()
    consumer = Consumer({"bootstrap.servers": address, "group.id": group,
                         "auto.offset.reset": "earliest", "enable.auto.commit": False,
                         "isolation.level": "read_committed", "heartbeat.interval.ms": 500})
    consumer.subscribe([topic])
    pending = False
    while not leave.is_set() or pending:
        for message in consumer.consume(200, 0.2):
            if message.error():
                print(message.error(), file=sys.stderr)
                continue
            pending = True
            say("record", message.partition(), message.offset(), message.value().decode())
        if pending:
            try:
                for place in consumer.commit(asynchronous=False):
                    say("committed", place.partition, place.offset)
                pending = False
            except KafkaException as error:
                # A rebalance, or the broker is away: the next commit has it.
                print(error, file=sys.stderr)
                pending = bool(consumer.assignment())
    consumer.close()


def transact(address, topic, group):
    producer = Producer({"bootstrap.servers": address, "transactional.id": topic})
    producer.init_transactions(10)

    def send(name):
        for number in range(10):
            producer.produce(topic, key=f"{name}-{number}", value=f"{name}-{number}")

    producer.begin_transaction()
    send("kept")
    producer.commit_transaction(WAIT_S)
    producer.begin_transaction()
    send("dropped")
    producer.flush(WAIT_S)
    producer.abort_transaction(WAIT_S)
    consumer = Consumer({"bootstrap.servers": address, "group.id": group})
    producer.begin_transaction()
    send("moved")
    places = [TopicPartition(topic, partition, 1) for partition in range(4)]
    producer.send_offsets_to_transaction(places, consumer.consumer_group_metadata(), WAIT_S)
    producer.commit_transaction(WAIT_S)
    for place in places:
        say("committed", place.partition, place.offset)


ORDERS = {"admin": admin, "produce": produce, "consume": consume, "transact": transact}
ORDERS[sys.argv[1]](*sys.argv[2:])
