//! The real broker under attack: a client that says what it likes over a socket, and a bystander
//! who must be served all the while. How long that took at most is told, and not judged: a bench
//! asserts speed, a test does not.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use lossproof_wire::batch::{self, BatchBuilder, Compression};
use lossproof_wire::*;
use tempfile::TempDir;

use crate::support::Broker;

/// No sample has a name so long but for some of 100 letters and more: nobody else deletes it.
const TOPIC: &str = "of-the-bystander";
const PRODUCE_VERSION: i16 = 9;
const FETCH_VERSION: i16 = 12;

/// The broker answers at once, or closes: whoever says nothing for so long hangs.
const SILENCE_MAX: Duration = Duration::from_mins(2);

/// A broker, and a client with a connection from before the attack.
pub(crate) struct Scene {
    pub(crate) broker: Broker,
    bystander: Client,
    acknowledged: i64,
    longest: Duration,
    _data: TempDir,
}

impl Scene {
    pub(crate) fn start(settings: &[&str]) -> Self {
        let data = tempfile::tempdir().unwrap();
        let arguments: Vec<&str> = settings.iter().flat_map(|set| ["--set", set]).collect();
        let broker = Broker::start(data.path(), &arguments);
        let mut bystander = Client::connect(&broker.server);
        bystander.create(TOPIC, &[]);
        Self { broker, bystander, acknowledged: 0, longest: Duration::ZERO, _data: data }
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(&self.broker.server)
    }

    /// The bystander writes a record and reads it.
    pub(crate) fn is_served(&mut self) {
        let begun = Instant::now();
        let value = format!("record {}", self.acknowledged);
        let answer = self.bystander.produce(TOPIC, batch_of(value.as_bytes(), Compression::None));
        assert_eq!((answer.error_code, answer.base_offset), (ErrorCode::NONE, self.acknowledged));
        let read = self.bystander.fetch(TOPIC, self.acknowledged);
        assert_eq!(values(&read), [value]);
        self.acknowledged += 1;
        self.longest = self.longest.max(begun.elapsed());
    }

    /// The process lives, has never held more memory than this, and what the bystander was told is
    /// stored is there.
    pub(crate) fn end(mut self, memory_bytes_max: usize) {
        self.is_served();
        let mut offset = 0;
        while offset < self.acknowledged {
            let values = values(&self.bystander.fetch(TOPIC, offset));
            for value in values {
                assert_eq!(value, format!("record {offset}"));
                offset += 1;
            }
        }
        let peak = peak_memory_bytes(self.broker.id());
        println!("memory at its peak: {} KiB", peak >> 10);
        println!("a record written and read took the bystander at most {:?}", self.longest);
        assert!(peak <= memory_bytes_max, "{peak} bytes of memory, {memory_bytes_max} are allowed");
        let said = self.broker.stop();
        assert!(!said.contains("panicked"), "{said}");
    }
}

/// What the process has had resident at its worst.
pub(crate) fn peak_memory_bytes(process: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kibibytes: usize = line.trim().strip_suffix(" kB").unwrap().parse().unwrap();
    kibibytes << 10
}

pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    correlation_id: i32,
}

impl Client {
    pub(crate) fn connect(server: &str) -> Self {
        let stream = TcpStream::connect(server).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(SILENCE_MAX)).unwrap();
        Self { stream, correlation_id: 0 }
    }

    pub(crate) fn send_frame(&mut self, frame: &[u8]) {
        let whole = [&(frame.len() as i32).to_be_bytes()[..], frame].concat();
        // The broker may have closed already: then what follows will show it.
        let _ = self.stream.write_all(&whole);
    }

    /// `None`: the connection is closed.
    pub(crate) fn receive_frame(&mut self) -> Option<Bytes> {
        let mut length = [0; 4];
        self.read(&mut length)?;
        let mut frame = vec![0; i32::from_be_bytes(length) as usize];
        self.read(&mut frame)?;
        Some(frame.into())
    }

    fn read(&mut self, bytes: &mut [u8]) -> Option<()> {
        let read = self.stream.read_exact(bytes);
        let hangs = read.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
        assert!(!hangs, "the broker neither answers nor closes");
        read.ok()
    }

    pub(crate) fn is_closed(&mut self) -> bool {
        self.receive_frame().is_none()
    }

    /// Nothing more is sent; what is still answered is read, to the end.
    pub(crate) fn half_close(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
        while self.receive_frame().is_some() {}
    }

    pub(crate) fn send<M: Message>(&mut self, request: &M, version: i16) {
        self.correlation_id += 1;
        self.send_frame(&frame(request, version, self.correlation_id));
    }

    pub(crate) fn call<Q: Message, A: Message>(&mut self, request: &Q, version: i16) -> A {
        self.send(request, version);
        let mut answer = self.receive_frame().expect("an answer");
        let header_version = A::API_KEY.response_header_version(version);
        let header = ResponseHeader::decode(&mut answer, header_version).unwrap();
        assert_eq!(header.correlation_id, self.correlation_id);
        A::decode(&mut answer, version).unwrap()
    }

    pub(crate) fn create(&mut self, name: &str, settings: &[(&str, &str)]) {
        let configs = settings.iter().map(|(name, value)| CreatableTopicConfig {
            name: (*name).into(),
            value: Some((*value).into()),
        });
        let topic = CreatableTopic {
            name: name.into(),
            num_partitions: 1,
            replication_factor: 1,
            configs: configs.collect(),
            ..Default::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], ..Default::default() };
        let answer: CreateTopicsResponse = self.call(&request, 7);
        assert_eq!(answer.topics[0].error_code, ErrorCode::NONE);
    }

    pub(crate) fn produce(&mut self, topic: &str, batch: Bytes) -> PartitionProduceResponse {
        let mut answer: ProduceResponse = self.call(&produce(topic, batch), PRODUCE_VERSION);
        answer.responses.remove(0).partition_responses.remove(0)
    }

    pub(crate) fn fetch(&mut self, topic: &str, offset: i64) -> PartitionData {
        let mut answer: FetchResponse = self.call(&fetch(topic, offset), FETCH_VERSION);
        answer.responses.remove(0).partitions.remove(0)
    }

    /// Every record that was taken, however broken what came with it, can be decoded.
    pub(crate) fn reads_all_of(&mut self, topic: &str) {
        let mut offset = 0;
        loop {
            let read = self.fetch(topic, offset);
            assert_eq!(read.error_code, ErrorCode::NONE);
            let begin = offset;
            for batch in batch::split(&read.records.clone().unwrap().into_bytes()) {
                for record in batch::records(&batch.unwrap()).unwrap() {
                    offset = record.expect("what is stored can be read").offset + 1;
                }
            }
            if offset == begin {
                assert_eq!(offset, read.high_watermark);
                return;
            }
        }
    }

    /// Asks for as much as there is.
    pub(crate) fn send_fetch(&mut self, topic: &str) {
        self.send(&fetch(topic, 0), FETCH_VERSION);
    }
}

/// A request with its header, without its length.
pub(crate) fn frame<M: Message>(request: &M, version: i16, correlation_id: i32) -> BytesMut {
    let mut out = header(M::API_KEY, version, correlation_id);
    request.encode(&mut out, version).unwrap();
    out
}

pub(crate) fn header(key: ApiKey, version: i16, correlation_id: i32) -> BytesMut {
    let mut out = BytesMut::new();
    let header = RequestHeader {
        request_api_key: key.code(),
        request_api_version: version,
        correlation_id,
        client_id: Some("hostile".into()),
    };
    header.encode(&mut out, key.request_header_version(version)).unwrap();
    out
}

pub(crate) fn batch_of(value: &[u8], compression: Compression) -> Bytes {
    let mut builder = BatchBuilder::new().compression(compression);
    builder.push(1_700_000_000_000, None, Some(value), &[]);
    builder.build().unwrap()
}

fn values(read: &PartitionData) -> Vec<String> {
    assert_eq!(read.error_code, ErrorCode::NONE);
    let mut values = vec![];
    for batch in batch::split(&read.records.clone().unwrap().into_bytes()) {
        for record in batch::records(&batch.unwrap()).unwrap() {
            let value = record.unwrap().value.unwrap();
            values.push(String::from_utf8(value.to_vec()).unwrap());
        }
    }
    values
}

pub(crate) fn produce(topic: &str, batch: Bytes) -> ProduceRequest {
    let partition = PartitionProduceData { index: 0, records: Some(batch) };
    let topic = TopicProduceData {
        name: topic.into(),
        partition_data: vec![partition],
        ..Default::default()
    };
    ProduceRequest { acks: -1, timeout_ms: 1_000, topic_data: vec![topic], ..Default::default() }
}

fn fetch(topic: &str, fetch_offset: i64) -> FetchRequest {
    let partition =
        FetchPartition { fetch_offset, partition_max_bytes: i32::MAX, ..Default::default() };
    let topic =
        FetchTopic { topic: topic.into(), partitions: vec![partition], ..Default::default() };
    FetchRequest {
        min_bytes: 1,
        max_bytes: i32::MAX,
        session_epoch: -1,
        topics: vec![topic],
        ..Default::default()
    }
}
