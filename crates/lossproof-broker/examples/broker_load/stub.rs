//! A broker that only answers: it says yes to every batch and keeps none. What a client reaches
//! against it is the client's own limit.

use std::collections::HashMap;
use std::net::SocketAddr;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use lossproof_wire::batch::BatchHeader;
use lossproof_wire::{
    ApiKey, ApiVersion, ApiVersionsResponse, InitProducerIdResponse, Message, MetadataRequest,
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
    PartitionProduceResponse, ProduceRequest, ProduceResponse, RequestHeader, ResponseHeader,
    TopicProduceResponse,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const READ_BYTES: usize = 256 << 10;

pub(crate) async fn run(address: &str, partitions: i32) {
    let listener = TcpListener::bind(address).await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    println!("ready bootstrap.servers={address}");
    while let Ok((stream, _)) = listener.accept().await {
        stream.set_nodelay(true).expect("no delay");
        tokio::spawn(serve(stream, address, partitions));
    }
}

async fn serve(mut stream: TcpStream, address: SocketAddr, partitions: i32) {
    let mut buffer = BytesMut::new();
    let mut stub = Stub { address, partitions, next_offsets: HashMap::new() };
    loop {
        while let Some(request) = take_frame(&mut buffer) {
            let answer = stub.answer(request);
            if stream.write_all(&answer).await.is_err() {
                return;
            }
        }
        buffer.reserve(READ_BYTES);
        if !matches!(stream.read_buf(&mut buffer).await, Ok(1..)) {
            return;
        }
    }
}

fn take_frame(buffer: &mut BytesMut) -> Option<Bytes> {
    let end = 4 + u32::from_be_bytes(*buffer.first_chunk::<4>()?) as usize;
    if buffer.len() < end {
        buffer.reserve(end - buffer.len());
        return None;
    }
    let mut frame = buffer.split_to(end).freeze();
    frame.advance(4);
    Some(frame)
}

struct Stub {
    address: SocketAddr,
    partitions: i32,
    next_offsets: HashMap<i32, i64>,
}

impl Stub {
    fn answer(&mut self, mut request: Bytes) -> BytesMut {
        let header = RequestHeader::decode(&mut request).expect("a header");
        let (id, version) = (header.correlation_id, header.request_api_version);
        match ApiKey::from_code(header.request_api_key) {
            Some(ApiKey::ApiVersions) => encode(id, &versions(), version.min(3)),
            Some(ApiKey::Metadata) => {
                let request = MetadataRequest::decode(&mut request, version).expect("a request");
                encode(id, &self.metadata(request), version)
            }
            Some(ApiKey::InitProducerId) => {
                let answer = InitProducerIdResponse { producer_id: 1, ..Default::default() };
                encode(id, &answer, version)
            }
            Some(ApiKey::Produce) => {
                let request = ProduceRequest::decode(&mut request, version).expect("a request");
                encode(id, &self.produce(request), version)
            }
            other => panic!("{other:?} is not for a stub"),
        }
    }

    fn metadata(&self, request: MetadataRequest) -> MetadataResponse {
        let (host, port) = (self.address.ip().to_string(), i32::from(self.address.port()));
        let broker = MetadataResponseBroker { node_id: 1, host, port, ..Default::default() };
        let partitions = (0..self.partitions).map(|partition_index| MetadataResponsePartition {
            partition_index,
            leader_id: 1,
            replica_nodes: vec![1],
            isr_nodes: vec![1],
            ..Default::default()
        });
        let partitions: Vec<_> = partitions.collect();
        let topics = request.topics.unwrap_or_default().into_iter();
        let topics = topics.map(|topic| MetadataResponseTopic {
            name: topic.name,
            topic_id: topic.topic_id,
            partitions: partitions.clone(),
            ..Default::default()
        });
        MetadataResponse {
            brokers: vec![broker],
            controller_id: 1,
            cluster_id: Some("stub".to_owned()),
            topics: topics.collect(),
            ..Default::default()
        }
    }

    fn produce(&mut self, request: ProduceRequest) -> ProduceResponse {
        let topics = request.topic_data.into_iter().map(|topic| {
            let partitions = topic.partition_data.into_iter().map(|partition| {
                let records = partition.records.expect("a batch");
                let batch = BatchHeader::parse(&records).expect("a batch");
                let next = self.next_offsets.entry(partition.index).or_default();
                let base_offset = *next;
                *next += i64::from(batch.record_count);
                PartitionProduceResponse {
                    index: partition.index,
                    base_offset,
                    log_start_offset: 0,
                    ..Default::default()
                }
            });
            let partition_responses = partitions.collect();
            TopicProduceResponse { name: topic.name, topic_id: topic.topic_id, partition_responses }
        });
        ProduceResponse { responses: topics.collect(), ..Default::default() }
    }
}

fn versions() -> ApiVersionsResponse {
    let served = ApiKey::ALL.map(|key| ApiVersion {
        api_key: key.code(),
        min_version: *key.served().start(),
        max_version: *key.served().end(),
    });
    ApiVersionsResponse { api_keys: served.to_vec(), ..Default::default() }
}

fn encode<M: Message>(correlation_id: i32, message: &M, version: i16) -> BytesMut {
    let mut out = BytesMut::new();
    out.put_i32(0);
    let header_version = M::API_KEY.response_header_version(version);
    ResponseHeader { correlation_id }.encode(&mut out, header_version).expect("a header");
    message.encode(&mut out, version).expect("an answer of this version");
    let length = (out.len() - 4) as i32;
    out[..4].copy_from_slice(&length.to_be_bytes());
    out
}
