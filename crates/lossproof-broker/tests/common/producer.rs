//! A transactional producer, on a connection of its own.

use bytes::Bytes;
use lossproof_wire::*;

use super::{Broker, Client, builder, fetch, produce};

pub(crate) struct Producer {
    pub(crate) client: Client,
    pub(crate) id: String,
    /// Producer id and epoch.
    pub(crate) bearer: (i64, i16),
}

impl Producer {
    pub(crate) async fn new(broker: &Broker, id: &str) -> Self {
        let client = broker.client().await;
        let mut producer = Self { client, id: id.into(), bearer: (-1, -1) };
        assert_eq!(producer.init().await, ErrorCode::NONE);
        producer
    }

    /// Takes over the transactional id.
    pub(crate) async fn init(&mut self) -> ErrorCode {
        let answer = self.try_init(&self.init_request(), 4).await;
        if answer.error_code.is_none() {
            self.bearer = (answer.producer_id, answer.producer_epoch);
        }
        answer.error_code
    }

    pub(crate) fn init_request(&self) -> InitProducerIdRequest {
        InitProducerIdRequest {
            transactional_id: Some(self.id.clone()),
            transaction_timeout_ms: 60_000,
            ..Default::default()
        }
    }

    pub(crate) async fn try_init(
        &mut self,
        request: &InitProducerIdRequest,
        version: i16,
    ) -> InitProducerIdResponse {
        self.client.call(request, version).await
    }

    pub(crate) async fn add(&mut self, topic: &str, partitions: &[i32]) -> Vec<ErrorCode> {
        self.add_in(topic, partitions, 3).await
    }

    pub(crate) async fn add_in(
        &mut self,
        topic: &str,
        partitions: &[i32],
        version: i16,
    ) -> Vec<ErrorCode> {
        let topic = AddPartitionsToTxnTopic { name: topic.into(), partitions: partitions.into() };
        let request = AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: self.id.clone(),
            v3_and_below_producer_id: self.bearer.0,
            v3_and_below_producer_epoch: self.bearer.1,
            v3_and_below_topics: vec![topic],
        };
        let answer: AddPartitionsToTxnResponse = self.client.call(&request, version).await;
        let results = &answer.results_by_topic_v3_and_below[0].results_by_partition;
        results.iter().map(|result| result.partition_error_code).collect()
    }

    pub(crate) fn batch(&self, sequence: i32, values: &[&str]) -> Bytes {
        let (producer_id, epoch) = self.bearer;
        let builder = builder(values).producer(producer_id, epoch, sequence);
        builder.transactional(true).build().expect("a batch")
    }

    pub(crate) async fn send_batch(
        &mut self,
        topic: &str,
        partition: i32,
        batch: Bytes,
    ) -> ErrorCode {
        let mut request = produce(topic, partition, -1, batch);
        request.transactional_id = Some(self.id.clone());
        let answer: ProduceResponse = self.client.call(&request, 11).await;
        answer.responses[0].partition_responses[0].error_code
    }

    pub(crate) async fn send(
        &mut self,
        topic: &str,
        partition: i32,
        sequence: i32,
        values: &[&str],
    ) -> ErrorCode {
        let batch = self.batch(sequence, values);
        self.send_batch(topic, partition, batch).await
    }

    pub(crate) async fn add_group(&mut self, group: &str, version: i16) -> ErrorCode {
        let request = AddOffsetsToTxnRequest {
            transactional_id: self.id.clone(),
            producer_id: self.bearer.0,
            producer_epoch: self.bearer.1,
            group_id: group.into(),
        };
        let answer: AddOffsetsToTxnResponse = self.client.call(&request, version).await;
        answer.error_code
    }

    pub(crate) fn offsets_request(
        &self,
        group: &str,
        topic: &str,
        offset: i64,
    ) -> TxnOffsetCommitRequest {
        let partition = TxnOffsetCommitRequestPartition {
            partition_index: 0,
            committed_offset: offset,
            ..Default::default()
        };
        TxnOffsetCommitRequest {
            transactional_id: self.id.clone(),
            group_id: group.into(),
            producer_id: self.bearer.0,
            producer_epoch: self.bearer.1,
            topics: vec![TxnOffsetCommitRequestTopic {
                name: topic.into(),
                partitions: vec![partition],
            }],
            ..Default::default()
        }
    }

    pub(crate) async fn offsets(&mut self, request: &TxnOffsetCommitRequest) -> ErrorCode {
        let answer: TxnOffsetCommitResponse = self.client.call(request, 4).await;
        answer.topics[0].partitions[0].error_code
    }

    pub(crate) async fn end(&mut self, committed: bool) -> ErrorCode {
        self.end_in(committed, 3).await
    }

    pub(crate) async fn end_in(&mut self, committed: bool, version: i16) -> ErrorCode {
        let request = EndTxnRequest {
            transactional_id: self.id.clone(),
            producer_id: self.bearer.0,
            producer_epoch: self.bearer.1,
            committed,
        };
        let answer: EndTxnResponse = self.client.call(&request, version).await;
        answer.error_code
    }
}

impl Client {
    /// What a committed reader is given from `offset` on.
    pub(crate) async fn fetch_committed(&mut self, topic: &str, offset: i64) -> PartitionData {
        let request = FetchRequest { isolation_level: 1, ..fetch(topic, 0, offset) };
        let answer: FetchResponse = self.call(&request, 12).await;
        answer.responses[0].partitions[0].clone()
    }

    /// What a committed reader makes of the beginning of partition 0.
    pub(crate) async fn committed_values(&mut self, topic: &str) -> Vec<String> {
        self.committed_part(topic, 0).await.0
    }

    /// What a committed reader makes of one answer, and where the next one begins.
    pub(crate) async fn committed_part(&mut self, topic: &str, offset: i64) -> (Vec<String>, i64) {
        let data = self.fetch_committed(topic, offset).await;
        assert_eq!(data.error_code, ErrorCode::NONE);
        committed_in(data, offset)
    }
}

/// What clients make of an answer for committed readers from `offset` on: they go through batches
/// and aborted transactions side by side, and only the marker of an abort ends one. And where the
/// next answer begins.
pub(crate) fn committed_in(data: PartitionData, offset: i64) -> (Vec<String>, i64) {
    let mut aborted = data.aborted_transactions.expect("a list").into_iter().peekable();
    let mut leaving_out = std::collections::BTreeSet::new();
    let (mut values, mut next_offset) = (vec![], offset);
    for bytes in batch::split(&data.records.unwrap_or_default().into_bytes()) {
        let bytes = bytes.expect("a whole batch");
        let header = batch::BatchHeader::parse(&bytes).expect("a batch");
        next_offset = header.last_offset() + 1;
        while let Some(next) = aborted.next_if(|it| it.first_offset <= header.last_offset()) {
            leaving_out.insert(next.producer_id);
        }
        if header.attributes.is_control() {
            if is_abort(&bytes) {
                leaving_out.remove(&header.producer_id);
            }
        } else if !header.attributes.is_transactional()
            || !leaving_out.contains(&header.producer_id)
        {
            values.extend(super::values_of(&bytes, 0));
        }
    }
    (values, next_offset)
}

/// Whether a control batch aborts: version and type are its key.
fn is_abort(marker: &Bytes) -> bool {
    let record = batch::records(marker).expect("a batch").next();
    record.expect("a record").expect("a record").key.as_deref() == Some(&[0, 0, 0, 0])
}
