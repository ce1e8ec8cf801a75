// Drives kafkajs; orders and printed lines are described in ../README.md.
import { promisify } from 'node:util'
import { zstdCompress, zstdDecompress } from 'node:zlib'
import Lz4Codec from '@2l/kafkajs-lz4'
import kafkajs from 'kafkajs'
import snappyCodec from 'kafkajs-snappy'

const { CompressionCodecs, CompressionTypes, Kafka, logLevel } = kafkajs
// kafkajs brings gzip only; the others it takes as plugins. That of zstd does not build any more.
CompressionCodecs[CompressionTypes.Snappy] = snappyCodec
CompressionCodecs[CompressionTypes.LZ4] = new Lz4Codec().codec
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: encoder => promisify(zstdCompress)(encoder.buffer),
  decompress: promisify(zstdDecompress)
})
const codecs = {
  none: CompressionTypes.None,
  gzip: CompressionTypes.GZIP,
  snappy: CompressionTypes.Snappy,
  lz4: CompressionTypes.LZ4,
  zstd: CompressionTypes.ZSTD
}

const say = (...words) => console.log(words.join(' '))
const [order, address, topic, choice] = process.argv.slice(2)
const kafka = new Kafka({ brokers: [address], logLevel: logLevel.WARN, retry: { retries: 20 } })

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
  const client = kafka.admin()
  await client.connect()
  const gone = topic + '-gone'
  await client.createTopics({
    topics: [{ topic, numPartitions: 4 }, { topic: gone, numPartitions: 1 }],
    waitForLeaders: true
  })
  const { topics } = await client.fetchTopicMetadata({ topics: [topic] })
  say('partitions', topics[0].partitions.length)
  const { resources } = await client.describeConfigs({ resources: [{ type: 2, name: topic }] })
  for (const entry of resources[0].configEntries) {
    say('config', `${entry.configName}=${entry.configValue}`)
  }
  await client.deleteTopics({ topics: [gone] })
  say('topics', ...await client.listTopics())
  await client.disconnect()
}

async function produce () {
  const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1 })
  await producer.connect()
  let number = 0
  for await (const lines of inputLines()) {
    const messages = lines.map(value => ({ key: value, value, partition: number++ % 4 }))
    const compression = codecs[choice]
    const answers = await producer.send({ topic, acks: -1, compression, messages })
    const next = new Map(answers.map(at => [at.partition, BigInt(at.baseOffset)]))
    for (const { partition, value } of messages) {
      say('acked', partition, next.get(partition), value)
      next.set(partition, next.get(partition) + 1n)
    }
  }
  await producer.disconnect()
}

async function consume () {
  const consumer = kafka.consumer({
    groupId: choice, heartbeatInterval: 500, maxWaitTimeInMs: 200, readUncommitted: false
  })
  await consumer.connect()
  await consumer.subscribe({ topics: [topic], fromBeginning: true })
  await consumer.run({
    autoCommit: false,
    eachBatch: async ({ batch: { partition, messages } }) => {
      for (const { offset, value } of messages) say('record', partition, offset, String(value))
      const offset = String(BigInt(messages.at(-1).offset) + 1n)
      try {
        await consumer.commitOffsets([{ topic, partition, offset }])
        say('committed', partition, offset)
      } catch (error) {
        // A rebalance, or the broker is away: the next commit has it. An error that leaves this
        // function would end the consumer for good.
        console.error(error)
      }
    }
  })
  for await (const _ of process.stdin);
  // Ends the batch in hand first, and with it the commit.
  await consumer.disconnect()
  // Whoever was connected again after the broker had been away may keep a connection that nobody
  // closes any more, and the process with it: see the findings.
  process.exit()
}

async function transact () {
  const producer = kafka.producer({
    transactionalId: topic, idempotent: true, maxInFlightRequests: 1, retry: { retries: 3 }
  })
  await producer.connect()
  const send = (transaction, name) => {
    const messages = [...Array(10).keys()].map(number => `${name}-${number}`)
      .map(value => ({ key: value, value }))
    return transaction.send({ topic, acks: -1, messages })
  }
  let transaction = await producer.transaction()
  await send(transaction, 'kept')
  await transaction.commit()
  transaction = await producer.transaction()
  await send(transaction, 'dropped')
  await transaction.abort()
  transaction = await producer.transaction()
  await send(transaction, 'moved')
  const partitions = [0, 1, 2, 3].map(partition => ({ partition, offset: '1' }))
  await transaction.sendOffsets({ consumerGroupId: choice, topics: [{ topic, partitions }] })
  await transaction.commit()
  for (const { partition, offset } of partitions) say('committed', partition, offset)
  await producer.disconnect()
}

await { admin, produce, consume, transact }[order]()
