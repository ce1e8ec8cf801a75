//! A broker in this process, on a network and a disk that exist in memory only, and a client that
//! says exactly what a test wants it to say.

pub(crate) mod member;
pub(crate) mod producer;
pub(crate) mod world;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use lossproof_broker::{BrokerConfig, Monitor, Server, Stopper};
use lossproof_env::{
    Connection, Environment, ManualClock, MemoryNet, Net, RealClock, SeededRng, SimDisk,
};
use lossproof_log::LogConfig;
use lossproof_wire::batch::{BatchBuilder, Compression};
use lossproof_wire::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;

const LOOKS_MAX: usize = 12_000;
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

pub(crate) struct Broker {
    pub(crate) net: MemoryNet,
    pub(crate) disk: SimDisk,
    pub(crate) address: SocketAddr,
    pub(crate) monitor: Monitor,
    stopper: Stopper,
    task: JoinHandle<()>,
    settings: fn(&mut BrokerConfig),
}

impl Broker {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(settings: fn(&mut BrokerConfig)) -> Self {
        Self::on(SimDisk::new(), settings).await
    }

    pub(crate) async fn on(disk: SimDisk, settings: fn(&mut BrokerConfig)) -> Self {
        Self::try_on(disk, settings).await.expect("the broker starts")
    }

    /// Damage may be such that the start is refused.
    pub(crate) async fn try_on(
        disk: SimDisk,
        settings: fn(&mut BrokerConfig),
    ) -> Result<Self, lossproof_broker::StartError> {
        Self::try_in(environment(&disk), disk, settings).await
    }

    /// In a time that passes when the test says so.
    pub(crate) async fn on_clock(clock: &ManualClock) -> Self {
        Self::on_clock_with(clock, |_| {}).await
    }

    pub(crate) async fn on_clock_with(
        clock: &ManualClock,
        settings: fn(&mut BrokerConfig),
    ) -> Self {
        let disk = SimDisk::new();
        let env = Environment { clock: Arc::new(clock.clone()), ..environment(&disk) };
        Self::try_in(env, disk, settings).await.expect("the broker starts")
    }

    async fn try_in(
        env: Environment,
        disk: SimDisk,
        settings: fn(&mut BrokerConfig),
    ) -> Result<Self, lossproof_broker::StartError> {
        let net = MemoryNet::new();
        let listen = "127.0.0.1:9092".parse().expect("an address");
        let mut config = BrokerConfig::new(listen, "/data");
        config.groups.initial_rebalance_delay = Duration::ZERO;
        config.log = log_config();
        settings(&mut config);
        let server = Server::start(&env, &net, config).await?;
        let (monitor, stopper) = (server.monitor(), server.stopper());
        let task = tokio::spawn(async move {
            // A fenced journal closes with an error, which is what some tests bring about.
            let _ = server.run().await;
        });
        Ok(Self { net, disk, address: listen, monitor, stopper, task, settings })
    }

    pub(crate) async fn client(&self) -> Client {
        let stream = self.net.connect(self.address).await.expect("the broker listens");
        Client { stream, correlation_id: 0 }
    }

    pub(crate) fn drain(&self) {
        self.stopper.drain();
    }

    pub(crate) async fn stop(self) -> SimDisk {
        self.stopper.drain();
        self.task.await.expect("the broker does not panic");
        self.disk
    }

    /// Closed in order and started again.
    pub(crate) async fn restart(self) -> Self {
        let settings = self.settings;
        Self::on(self.stop().await.killed(), settings).await
    }

    /// Everything that was not synced is gone; then started again.
    pub(crate) async fn power_cut(self) -> Self {
        let disk = self.disk.power_cut();
        self.task.abort();
        Self::on(disk, self.settings).await
    }
}

pub(crate) fn environment(disk: &SimDisk) -> Environment {
    Environment {
        disk: Arc::new(disk.clone()),
        clock: Arc::new(RealClock::new()),
        rng: Arc::new(SeededRng::new(disk.position() as u64 + 7)),
    }
}

/// A journal that is quick to make.
pub(crate) fn log_config() -> LogConfig {
    LogConfig {
        segment_bytes: 4 << 20,
        initial_zero_bytes: 1 << 20,
        zero_step_bytes: 1 << 20,
        reserve_bytes: 64 << 10,
        ballast_bytes: 256 << 10,
        ..LogConfig::default()
    }
}

/// Looks for what goes on in the background until it has happened. Where it never does, that is
/// told after a minute or more, and the test does not hang.
pub(crate) async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    for _ in 0..LOOKS_MAX {
        if is_so().await {
            return;
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    panic!("it never happens: {what}");
}

/// The oldest and the newest version of an API that are served: what lies between has the fields
/// of the one or the other.
pub(crate) fn ends(key: ApiKey) -> [i16; 2] {
    [*key.served().start(), *key.served().end()]
}

pub(crate) struct Client {
    pub(crate) stream: Box<dyn Connection>,
    correlation_id: i32,
}

impl Client {
    pub(crate) async fn send<M: Message>(&mut self, request: &M, version: i16) {
        self.correlation_id += 1;
        let mut out = BytesMut::new();
        let header = RequestHeader {
            request_api_key: M::API_KEY.code(),
            request_api_version: version,
            correlation_id: self.correlation_id,
            client_id: Some("test".into()),
        };
        let header_version = M::API_KEY.request_header_version(version);
        header.encode(&mut out, header_version).expect("a header");
        request.encode(&mut out, version).expect("a request");
        self.send_frame(&out).await;
    }

    pub(crate) async fn send_frame(&mut self, frame: &[u8]) {
        self.stream.write_i32(frame.len() as i32).await.expect("connected");
        self.stream.write_all(frame).await.expect("connected");
    }

    /// The next answer, whatever it answers: its correlation id and body.
    pub(crate) async fn receive_frame(&mut self) -> Option<Bytes> {
        let length = self.stream.read_i32().await.ok()?;
        let mut frame = vec![0; length as usize];
        self.stream.read_exact(&mut frame).await.ok()?;
        Some(frame.into())
    }

    pub(crate) async fn receive<M: Message>(&mut self, version: i16) -> M {
        self.receive_numbered(version).await.1
    }

    pub(crate) async fn receive_numbered<M: Message>(&mut self, version: i16) -> (i32, M) {
        let mut frame = self.receive_frame().await.expect("an answer");
        let header_version = M::API_KEY.response_header_version(version);
        let header = ResponseHeader::decode(&mut frame, header_version).expect("a header");
        let answer = M::decode(&mut frame, version).expect("an answer of this version");
        assert!(!frame.has_remaining(), "nothing follows the answer");
        (header.correlation_id, answer)
    }

    pub(crate) async fn call<Q: Message, A: Message>(&mut self, request: &Q, version: i16) -> A {
        self.send(request, version).await;
        let (correlation_id, answer) = self.receive_numbered(version).await;
        assert_eq!(correlation_id, self.correlation_id);
        answer
    }

    /// Asks for something that is always answered; a closed connection takes no question.
    pub(crate) async fn is_served(&mut self) -> bool {
        let mut out = BytesMut::new();
        let header =
            RequestHeader { request_api_key: ApiKey::ApiVersions.code(), ..Default::default() };
        header.encode(&mut out, 1).expect("a header");
        let _ = self.stream.write_i32(out.len() as i32).await;
        let _ = self.stream.write_all(&out).await;
        self.receive_frame().await.is_some()
    }

    /// The broker has closed the connection without another answer.
    pub(crate) async fn is_closed(&mut self) -> bool {
        self.receive_frame().await.is_none()
    }

    pub(crate) async fn create(&mut self, name: &str, partitions: i32) -> CreatableTopicResult {
        self.create_topic(name, partitions, &[]).await
    }

    /// A topic of one partition with settings of its own.
    pub(crate) async fn create_with(&mut self, name: &str, settings: &[(&str, &str)]) {
        let made = self.create_topic(name, 1, settings).await;
        assert_eq!(made.error_code, ErrorCode::NONE, "{made:?}");
    }

    async fn create_topic(
        &mut self,
        name: &str,
        partitions: i32,
        settings: &[(&str, &str)],
    ) -> CreatableTopicResult {
        let config = |(name, value): &(&str, &str)| CreatableTopicConfig {
            name: (*name).into(),
            value: Some((*value).into()),
        };
        let topic = CreatableTopic {
            name: name.into(),
            num_partitions: partitions,
            replication_factor: -1,
            configs: settings.iter().map(config).collect(),
            ..Default::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], ..Default::default() };
        let mut answer: CreateTopicsResponse = self.call(&request, 7).await;
        answer.topics.remove(0)
    }

    pub(crate) async fn produce(
        &mut self,
        topic: &str,
        partition: i32,
        batch: Bytes,
    ) -> PartitionProduceResponse {
        let answer: ProduceResponse = self.call(&produce(topic, partition, -1, batch), 9).await;
        answer.responses[0].partition_responses[0].clone()
    }

    pub(crate) async fn fetch(
        &mut self,
        topic: &str,
        partition: i32,
        offset: i64,
    ) -> PartitionData {
        let answer: FetchResponse = self.call(&fetch(topic, partition, offset), 12).await;
        answer.responses[0].partitions[0].clone()
    }

    pub(crate) async fn values(&mut self, topic: &str, partition: i32) -> Vec<String> {
        let mut values = vec![];
        loop {
            let data = self.fetch(topic, partition, values.len() as i64).await;
            assert_eq!(data.error_code, ErrorCode::NONE);
            let records = data.records.unwrap_or_default().into_bytes();
            if records.is_empty() {
                return values;
            }
            for value in values_of(&records, values.len() as i64) {
                values.push(value);
            }
        }
    }

    pub(crate) async fn producer_id(&mut self) -> (i64, i16) {
        let answer: InitProducerIdResponse = self
            .call(&InitProducerIdRequest { transaction_timeout_ms: 1, ..Default::default() }, 4)
            .await;
        assert_eq!(answer.error_code, ErrorCode::NONE);
        (answer.producer_id, answer.producer_epoch)
    }

    /// The log start, and the error.
    pub(crate) async fn delete_records(
        &mut self,
        topic: &str,
        partition: i32,
        offset: i64,
    ) -> (i64, ErrorCode) {
        self.delete_records_in(topic, partition, offset, 2).await
    }

    pub(crate) async fn delete_records_in(
        &mut self,
        topic: &str,
        partition_index: i32,
        offset: i64,
        version: i16,
    ) -> (i64, ErrorCode) {
        let partitions = vec![DeleteRecordsPartition { partition_index, offset }];
        let topics = vec![DeleteRecordsTopic { name: topic.into(), partitions }];
        let request = DeleteRecordsRequest { topics, timeout_ms: 1_000 };
        let answer: DeleteRecordsResponse = self.call(&request, version).await;
        let result = &answer.topics[0].partitions[0];
        (result.low_watermark, result.error_code)
    }

    pub(crate) async fn commit(
        &mut self,
        group: &str,
        topic: &str,
        partition: i32,
        offset: i64,
    ) -> ErrorCode {
        let request = offset_commit(group, -1, "", topic, partition, offset);
        let answer: OffsetCommitResponse = self.call(&request, 8).await;
        answer.topics[0].partitions[0].error_code
    }

    /// All that are listed.
    pub(crate) async fn groups(&mut self) -> Vec<String> {
        let answer: ListGroupsResponse = self.call(&ListGroupsRequest::default(), 4).await;
        answer.groups.into_iter().map(|group| group.group_id).collect()
    }

    pub(crate) async fn committed(
        &mut self,
        group: &str,
        topic: &str,
        partition: i32,
    ) -> (i64, ErrorCode) {
        let request = OffsetFetchRequest {
            group_id: group.into(),
            topics: Some(vec![OffsetFetchRequestTopic {
                name: topic.into(),
                partition_indexes: vec![partition],
            }]),
            ..Default::default()
        };
        let answer: OffsetFetchResponse = self.call(&request, 7).await;
        let partition = &answer.topics[0].partitions[0];
        (partition.committed_offset, partition.error_code)
    }
}

/// The values of all records from `from` on.
pub(crate) fn values_of(records: &Bytes, from: i64) -> Vec<String> {
    let mut values = vec![];
    for bytes in batch::split(records) {
        for record in batch::records(&bytes.expect("a whole batch")).expect("a batch") {
            let record = record.expect("a record");
            if record.offset >= from {
                let value = record.value.expect("a value").to_vec();
                values.push(String::from_utf8(value).expect("text"));
            }
        }
    }
    values
}

pub(crate) fn builder(values: &[&str]) -> BatchBuilder {
    let mut builder = BatchBuilder::new();
    for (index, value) in values.iter().enumerate() {
        builder.push(1_000 + index as i64, None, Some(value.as_bytes()), &[]);
    }
    builder
}

pub(crate) fn records(values: &[&str]) -> Bytes {
    builder(values).build().expect("a batch")
}

pub(crate) fn compressed(values: &[&str], compression: Compression) -> Bytes {
    builder(values).compression(compression).build().expect("a batch")
}

/// An idempotent batch.
pub(crate) fn sequenced(values: &[&str], (id, epoch): (i64, i16), sequence: i32) -> Bytes {
    builder(values).producer(id, epoch, sequence).build().expect("a batch")
}

pub(crate) fn produce(topic: &str, partition: i32, acks: i16, batch: Bytes) -> ProduceRequest {
    ProduceRequest {
        acks,
        timeout_ms: 1_000,
        topic_data: vec![TopicProduceData {
            name: topic.into(),
            partition_data: vec![PartitionProduceData { index: partition, records: Some(batch) }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// Waits for nothing and takes everything.
pub(crate) fn fetch(topic: &str, partition: i32, fetch_offset: i64) -> FetchRequest {
    FetchRequest {
        max_wait_ms: 0,
        min_bytes: 1,
        max_bytes: 1 << 20,
        session_epoch: -1,
        topics: vec![FetchTopic {
            topic: topic.into(),
            partitions: vec![FetchPartition {
                partition,
                fetch_offset,
                partition_max_bytes: 1 << 20,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

pub(crate) fn offset_commit(
    group: &str,
    generation: i32,
    member: &str,
    topic: &str,
    partition: i32,
    offset: i64,
) -> OffsetCommitRequest {
    OffsetCommitRequest {
        group_id: group.into(),
        generation_id_or_member_epoch: generation,
        member_id: member.into(),
        topics: vec![OffsetCommitRequestTopic {
            name: topic.into(),
            partitions: vec![OffsetCommitRequestPartition {
                partition_index: partition,
                committed_offset: offset,
                committed_metadata: Some(String::new()),
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    }
}
