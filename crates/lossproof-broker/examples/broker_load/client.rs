//! The least that a Kafka client can be.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use lossproof_wire::batch::BatchBuilder;
use lossproof_wire::{
    CreatableTopic, CreateTopicsRequest, CreateTopicsResponse, ErrorCode, ListOffsetsPartition,
    ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic, Message, PartitionProduceData,
    ProduceRequest, RequestHeader, ResponseHeader, TopicProduceData,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The last one that names topics by their names.
pub(crate) const PRODUCE_VERSION: i16 = 12;
pub(crate) const RECORD_BYTES: usize = 1024;
/// Where the correlation id stands in a request: after length, key and version.
const CORRELATION_AT: usize = 8;
const CREATE_VERSION: i16 = 5;
const LIST_OFFSETS_VERSION: i16 = 7;
const NEXT_OFFSET: i64 = -1;
/// A broker that has not made a topic by then will not.
const CREATE_TRIES_MAX: u32 = 600;
const CREATE_PAUSE: Duration = Duration::from_millis(100);

#[derive(Clone, Debug)]
pub(crate) struct Topic {
    pub(crate) address: String,
    pub(crate) name: String,
    pub(crate) partitions: i32,
}

/// A request with its length in front, to be sent as often as one likes.
pub(crate) fn request<M: Message>(message: &M, version: i16) -> Vec<u8> {
    let header = RequestHeader {
        request_api_key: M::API_KEY.code(),
        request_api_version: version,
        correlation_id: 0,
        client_id: Some("load".to_owned()),
    };
    let mut out = BytesMut::new();
    out.put_i32(0);
    header.encode(&mut out, M::API_KEY.request_header_version(version)).expect("a header");
    message.encode(&mut out, version).expect("a request of this version");
    let length = (out.len() - 4) as i32;
    out[..4].copy_from_slice(&length.to_be_bytes());
    out.to_vec()
}

/// A request to append one record to a partition, acknowledged by all.
pub(crate) fn produce_request(topic: &Topic, partition: i32, value: &[u8]) -> Vec<u8> {
    let mut batch = BatchBuilder::new();
    batch.push(wall_ms(), None, Some(value), &[]);
    let records = Some(batch.build().expect("a batch"));
    let partition_data = vec![PartitionProduceData { index: partition, records }];
    let data = TopicProduceData { name: topic.name.clone(), partition_data, ..Default::default() };
    let message = ProduceRequest {
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![data],
        ..Default::default()
    };
    request(&message, PRODUCE_VERSION)
}

pub(crate) fn wall_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("a clock after 1970").as_millis() as i64
}

/// Bytes that do not compress, the same in every run.
pub(crate) fn noise(length: usize, mut seed: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.push((seed >> 56) as u8);
    }
    bytes
}

/// One connection. Answers come in the order of the requests.
#[derive(Debug)]
pub(crate) struct Client {
    stream: TcpStream,
    buffer: BytesMut,
    correlation_id: i32,
}

impl Client {
    pub(crate) async fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).await.expect("the broker listens");
        stream.set_nodelay(true).expect("no delay");
        Self { stream, buffer: BytesMut::new(), correlation_id: 0 }
    }

    /// Sends a request of [`request`], whose answer is to be of this number.
    pub(crate) async fn send(&mut self, request: &mut [u8]) -> i32 {
        self.correlation_id += 1;
        let id = self.correlation_id.to_be_bytes();
        request[CORRELATION_AT..CORRELATION_AT + 4].copy_from_slice(&id);
        self.stream.write_all(request).await.expect("the broker takes a request");
        self.correlation_id
    }

    /// The next answer, which must be of this number.
    pub(crate) async fn receive<M: Message>(&mut self, version: i16, correlation_id: i32) -> M {
        let mut frame = self.frame().await;
        let header_version = M::API_KEY.response_header_version(version);
        let header = ResponseHeader::decode(&mut frame, header_version).expect("a header");
        assert_eq!(header.correlation_id, correlation_id, "answers come in order");
        M::decode(&mut frame, version).expect("an answer of this version")
    }

    pub(crate) async fn call<Q: Message, A: Message>(&mut self, message: &Q, version: i16) -> A {
        let id = self.send(&mut request(message, version)).await;
        self.receive(version, id).await
    }

    async fn frame(&mut self) -> Bytes {
        loop {
            if let Some(length) = self.buffer.first_chunk::<4>() {
                let end = 4 + u32::from_be_bytes(*length) as usize;
                if self.buffer.len() >= end {
                    let mut frame = self.buffer.split_to(end).freeze();
                    frame.advance(4);
                    return frame;
                }
                self.buffer.reserve(end - self.buffer.len());
            }
            let count = self.stream.read_buf(&mut self.buffer).await.expect("an answer");
            assert!(count > 0, "the broker has closed the connection");
        }
    }
}

/// Makes a topic, and waits until all of its partitions can be written to.
pub(crate) async fn create(topic: &Topic) {
    let mut client = Client::connect(&topic.address).await;
    let created = CreatableTopic {
        name: topic.name.clone(),
        num_partitions: topic.partitions,
        replication_factor: 1,
        ..Default::default()
    };
    let request = CreateTopicsRequest { topics: vec![created], ..Default::default() };
    let answer: CreateTopicsResponse = client.call(&request, CREATE_VERSION).await;
    assert_eq!(answer.topics[0].error_code, ErrorCode::NONE, "{answer:?}");
    wait_until(&mut client, topic).await;
}

/// Until all of its partitions can be written to.
async fn wait_until(client: &mut Client, topic: &Topic) {
    for _ in 0..CREATE_TRIES_MAX {
        let offsets = next_offsets(client, topic).await;
        if offsets.len() == topic.partitions as usize {
            return;
        }
        tokio::time::sleep(CREATE_PAUSE).await;
    }
    panic!("the topic is not there");
}

/// Where the next record of each partition goes; of those that can be written to.
pub(crate) async fn next_offsets(client: &mut Client, topic: &Topic) -> Vec<i64> {
    let partitions = (0..topic.partitions).map(|partition_index| ListOffsetsPartition {
        partition_index,
        timestamp: NEXT_OFFSET,
        ..Default::default()
    });
    let partitions = partitions.collect();
    let asked = ListOffsetsTopic { name: topic.name.clone(), partitions };
    let request = ListOffsetsRequest { replica_id: -1, topics: vec![asked], ..Default::default() };
    let answer: ListOffsetsResponse = client.call(&request, LIST_OFFSETS_VERSION).await;
    let mut found: Vec<_> = answer.topics.into_iter().flat_map(|it| it.partitions).collect();
    found.retain(|partition| partition.error_code == ErrorCode::NONE);
    found.sort_by_key(|partition| partition.partition_index);
    found.iter().map(|partition| partition.offset).collect()
}
