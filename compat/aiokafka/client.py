"""Drives aiokafka; orders and printed lines are described in ../README.md."""
import asyncio
import sys

from aiokafka import (AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener,
                      TopicPartition)
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError

WAIT_S = 30


def say(*words):
    print(*words, flush=True)


async def admin(address, topic):
    client = AIOKafkaAdminClient(bootstrap_servers=address)
    await client.start()
    gone = topic + "-gone"
    await client.create_topics([NewTopic(topic, 4, 1), NewTopic(gone, 1, 1)])
    say("partitions", len((await client.describe_topics([topic]))[0]["partitions"]))
    resource = ConfigResource(ConfigResourceType.TOPIC, topic)
    for response in await client.describe_configs([resource]):
        for entry in response.resources[0][4]:
            say("config", f"{entry[0]}={entry[1]}")
    await client.delete_topics([gone])
    say("topics", *await client.list_topics())
    await client.close()


async def produce(address, topic, codec):
    codec = None if codec == "none" else codec
    producer = AIOKafkaProducer(bootstrap_servers=address, enable_idempotence=True,
                                compression_type=codec, linger_ms=5)
    await producer.start()

    async def answer(future, value):
        place = await future
        say("acked", place.partition, place.offset, value)

    answers = []
    while line := await asyncio.to_thread(sys.stdin.readline):
        value = line.rstrip("\n")
        future = await producer.send(topic, key=value.encode(), value=value.encode())
        answers.append(asyncio.create_task(answer(future, value)))
    await asyncio.wait_for(asyncio.gather(*answers), 2 * WAIT_S)
    await producer.stop()


class Forget(ConsumerRebalanceListener):
    """What a rebalance takes away is for its next owner to commit."""

    def __init__(self, pending):
        self.pending = pending

    def on_partitions_revoked(self, revoked):
        for partition in revoked:
            self.pending.pop(partition, None)

    def on_partitions_assigned(self, assigned):
        pass


async def consume(address, topic, group):
    leave = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    consumer = AIOKafkaConsumer(bootstrap_servers=address, group_id=group,
                                auto_offset_reset="earliest", enable_auto_commit=False,
                                isolation_level="read_committed", heartbeat_interval_ms=500)
    pending = {}
    consumer.subscribe([topic], listener=Forget(pending))
    await consumer.start()
    while not leave.done() or pending:
        for partition, records in (await consumer.getmany(timeout_ms=200)).items():
            for record in records:
                say("record", record.partition, record.offset, record.value.decode())
            pending[partition] = records[-1].offset + 1
        try:
            if pending:
                places = dict(pending)
                await consumer.commit(places)
                for place, at in places.items():
                    say("committed", place.partition, at)
                pending.clear()
        except KafkaError as error:
            # A rebalance, or the broker is away: the next commit has it.
            print(repr(error), file=sys.stderr)
    await consumer.stop()


async def transact(address, topic, group):
    producer = AIOKafkaProducer(bootstrap_servers=address, transactional_id=topic)
    await asyncio.wait_for(producer.start(), 10)

    async def send(name):
        for number in range(10):
            value = f"{name}-{number}".encode()
            await producer.send(topic, key=value, value=value)

    await producer.begin_transaction()
    await send("kept")
    await producer.commit_transaction()
    await producer.begin_transaction()
    await send("dropped")
    await producer.flush()
    await producer.abort_transaction()
    await producer.begin_transaction()
    await send("moved")
    places = {TopicPartition(topic, number): 1 for number in range(4)}
    await producer.send_offsets_to_transaction(places, group)
    await producer.commit_transaction()
    await producer.stop()
    for place, at in places.items():
        say("committed", place.partition, at)


ORDERS = {"admin": admin, "produce": produce, "consume": consume, "transact": transact}
asyncio.run(ORDERS[sys.argv[1]](*sys.argv[2:]))
