// Drives @platformatic/kafka; orders and printed lines are described in ../README.md.
import { setTimeout } from 'node:timers/promises'
import { Admin, Consumer, FetchIsolationLevels, Producer, stringDeserializers, stringSerializers }
  from '@platformatic/kafka'

const say = (...words) => console.log(words.join(' '))
const [order, address, topic, choice] = process.argv.slice(2)
const basics = { clientId: 'compat', bootstrapBrokers: [address], retries: 100, retryDelay: 200 }

// Whatever has come so far, as an array of lines, until the input ends.
async function * inputLines () {
  let rest = ''
  for await (const chunk of process.stdin) {
    const lines = (rest + chunk).split('\n')
    rest = lines.pop()
    if (lines.length > 0) yield lines
  }
}

async function admin () {
  const client = new Admin(basics)
  const gone = topic + '-gone'
  const [created] = await client.createTopics({ topics: [topic], partitions: 4, replicas: 1 })
  await client.createTopics({ topics: [gone], partitions: 1, replicas: 1 })
  const metadata = await client.metadata({ topics: [topic] })
  say('partitions', metadata.topics.get(created.name).partitionsCount)
  const resources = [{ resourceType: 2, resourceName: topic, configurationKeys: null }]
  const [described] = await client.describeConfigs({ resources })
  for (const { name, value } of described.configs) say('config', `${name}=${value}`)
  await client.deleteTopics({ topics: [gone] })
  say('topics', ...await client.listTopics())
  await client.close()
}

async function produce () {
  const producer = new Producer({
    ...basics, idempotent: true, compression: choice, serializers: stringSerializers
  })
  let number = 0
  for await (const lines of inputLines()) {
    const messages = lines.map(value => ({ topic, key: value, value, partition: number++ % 4 }))
    const { offsets } = await producer.send({ messages })
    const next = new Map(offsets.map(at => [at.partition, at.offset]))
    for (const { partition, value } of messages) {
      say('acked', partition, next.get(partition), value)
      next.set(partition, next.get(partition) + 1n)
    }
  }
  await producer.close()
}

async function consume () {
  const consumer = new Consumer({
    ...basics, groupId: choice, heartbeatInterval: 500, deserializers: stringDeserializers
  })
  const pending = new Map()
  // What a rebalance took away is for its next owner to commit.
  consumer.on('consumer:group:join', () => pending.clear())
  const stream = await consumer.consume({
    topics: [topic], mode: 'committed', fallbackMode: 'earliest', autocommit: false,
    maxWaitTime: 200, isolationLevel: FetchIsolationLevels.READ_COMMITTED
  })
  // The stream hands out what was on its way even after its partition has gone to another member.
  const isMine = partition => consumer.assignments?.some(its => its.partitions.includes(partition))
  stream.on('data', ({ partition, offset, value }) => {
    if (!isMine(partition)) return
    say('record', partition, offset, value)
    pending.set(partition, offset + 1n)
  })
  stream.on('error', error => console.error(error))
  let leave = false
  process.stdin.on('end', () => { leave = true }).resume()
  while (!leave || pending.size > 0) {
    await setTimeout(200)
    const places = [...pending]
    if (places.length === 0) continue
    try {
      const place = ([partition, offset]) => ({ topic, partition, offset, leaderEpoch: -1 })
      await consumer.commit({ offsets: places.map(place) })
      for (const [partition, offset] of places) {
        say('committed', partition, offset)
        if (pending.get(partition) === offset) pending.delete(partition)
      }
    } catch (error) {
      // A rebalance, or the broker is away: the next commit has it.
      console.error(error)
    }
  }
  await stream.close()
  await consumer.close()
}

async function transact () {
  const producer = new Producer({
    ...basics,
    retries: 3,
    transactionalId: topic,
    idempotent: true,
    autocreateTopics: true,
    serializers: stringSerializers
  })
  const send = (transaction, name) => {
    const messages = [...Array(10).keys()].map(number => `${name}-${number}`)
      .map(value => ({ topic, key: value, value }))
    return transaction.send({ messages })
  }
  let transaction = await producer.beginTransaction()
  await send(transaction, 'kept')
  await transaction.commit()
  transaction = await producer.beginTransaction()
  await send(transaction, 'dropped')
  await transaction.abort()
  transaction = await producer.beginTransaction()
  const consumer = new Consumer({ ...basics, groupId: choice })
  const stream = await consumer.consume({ topics: [topic], mode: 'earliest', autocommit: false })
  await transaction.addConsumer(consumer)
  await send(transaction, 'moved')
  for await (const message of stream) {
    await transaction.addOffset(message)
    say('committed', message.partition, message.offset + 1n)
    break
  }
  await transaction.commit()
  await consumer.close(true)
  await producer.close()
}

await { admin, produce, consume, transact }[order]()
