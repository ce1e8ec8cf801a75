//! Fetch sessions (KIP-227): a consumer names its partitions once and is told what is new, and
//! nothing that is new is ever left out.

use crate::common;

use common::{Broker, Client, records, values_of};
use lossproof_wire::*;

/// By name in the older versions, by id in the newer ones.
const VERSIONS: [i16; 2] = [7, 18];

struct Consumer {
    client: Client,
    version: i16,
    topic_id: Uuid,
    session_id: i32,
    epoch: i32,
}

impl Consumer {
    fn topic(&self, partitions: &[(i32, i64)]) -> Vec<FetchTopic> {
        let wanted = partitions.iter().map(|(partition, fetch_offset)| FetchPartition {
            partition: *partition,
            fetch_offset: *fetch_offset,
            partition_max_bytes: 1 << 20,
            ..Default::default()
        });
        let partitions: Vec<FetchPartition> = wanted.collect();
        if partitions.is_empty() {
            return vec![];
        }
        vec![FetchTopic { topic: "t".into(), topic_id: self.topic_id, partitions }]
    }

    /// Asks for what has changed: partitions and offsets that are new, partitions to forget.
    fn request(&self, changed: &[(i32, i64)], forgotten: &[i32]) -> FetchRequest {
        let forget = ForgottenTopic {
            topic: if self.version < 13 { "t".into() } else { String::new() },
            topic_id: if self.version < 13 { Uuid::ZERO } else { self.topic_id },
            partitions: forgotten.to_vec(),
        };
        FetchRequest {
            max_bytes: 1 << 20,
            session_id: self.session_id,
            session_epoch: self.epoch,
            topics: self.topic(changed),
            forgotten_topics_data: if forgotten.is_empty() { vec![] } else { vec![forget] },
            ..Default::default()
        }
    }

    async fn send(&mut self, request: &FetchRequest) -> FetchResponse {
        self.client.call(request, self.version).await
    }

    /// The partitions of the answer with their values, or with the name of their error.
    async fn fetch(&mut self, changed: &[(i32, i64)], forgotten: &[i32]) -> Vec<(i32, String)> {
        let request = self.request(changed, forgotten);
        let answer = self.send(&request).await;
        assert_eq!(answer.error_code, ErrorCode::NONE);
        self.session_id = answer.session_id;
        self.epoch += 1;
        let partitions = answer.responses.into_iter().flat_map(|topic| topic.partitions);
        let shown = partitions.map(|data| {
            let values = match data.error_code {
                ErrorCode::NONE => {
                    values_of(&data.records.expect("records").into_bytes(), 0).join(" ")
                }
                error => error.name().to_owned(),
            };
            (data.partition_index, values)
        });
        shown.collect()
    }

    async fn produce(&mut self, partition: i32, value: &str) {
        let answer = self.client.produce("t", partition, records(&[value])).await;
        assert_eq!(answer.error_code, ErrorCode::NONE);
    }
}

async fn consumer(broker: &Broker, version: i16) -> Consumer {
    let mut client = broker.client().await;
    let topic_id = client.create("t", 3).await.topic_id;
    Consumer { client, version, topic_id, session_id: 0, epoch: 0 }
}

fn shown(partitions: &[(i32, &str)]) -> Vec<(i32, String)> {
    partitions.iter().map(|(partition, values)| (*partition, (*values).to_owned())).collect()
}

/// SESSION-1.
#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_new_is_told_and_all_of_it() {
    for version in VERSIONS {
        let broker = Broker::start().await;
        let mut consumer = consumer(&broker, version).await;
        consumer.produce(1, "a").await;
        let first = consumer.fetch(&[(0, 0), (1, 0)], &[]).await;
        assert_eq!(first, shown(&[(0, ""), (1, "a")]), "all that was asked for");
        assert_ne!(consumer.session_id, 0);
        assert_eq!(consumer.fetch(&[(1, 1)], &[]).await, [], "nothing is new");
        consumer.produce(0, "b").await;
        consumer.produce(2, "c").await;
        assert_eq!(consumer.fetch(&[], &[]).await, shown(&[(0, "b")]));
        assert_eq!(consumer.fetch(&[], &[]).await, shown(&[(0, "b")]), "it has not gone on");
        assert_eq!(consumer.fetch(&[(0, 1), (2, 0)], &[]).await, shown(&[(2, "c")]));
        assert_eq!(consumer.fetch(&[(2, 1)], &[0]).await, []);
        consumer.produce(0, "d").await;
        consumer.produce(1, "e").await;
        assert_eq!(consumer.fetch(&[], &[]).await, shown(&[(1, "e")]), "0 is forgotten");
        broker.stop().await;
    }
}

/// SESSION-1: an error is told as often as it is met, and then what is well again.
#[tokio::test(flavor = "multi_thread")]
async fn errors_are_never_left_out() {
    for version in VERSIONS {
        let broker = Broker::start().await;
        let mut consumer = consumer(&broker, version).await;
        let out_of_range = shown(&[(0, "OFFSET_OUT_OF_RANGE")]);
        assert_eq!(consumer.fetch(&[(0, 7)], &[]).await, out_of_range);
        assert_eq!(consumer.fetch(&[], &[]).await, out_of_range);
        assert_eq!(consumer.fetch(&[(0, 0)], &[]).await, shown(&[(0, "")]));
        assert_eq!(consumer.fetch(&[], &[]).await, []);
        broker.stop().await;
    }
}

/// SESSION-2.
#[tokio::test(flavor = "multi_thread")]
async fn another_epoch_or_session_is_refused_and_changes_nothing() {
    for version in VERSIONS {
        let broker = Broker::start().await;
        let mut consumer = consumer(&broker, version).await;
        consumer.fetch(&[(0, 0)], &[]).await;
        let right = consumer.request(&[], &[]);
        for (session_id, session_epoch, refused) in [
            (right.session_id, 2, ErrorCode::INVALID_FETCH_SESSION_EPOCH),
            (right.session_id, -2, ErrorCode::INVALID_FETCH_SESSION_EPOCH),
            (right.session_id ^ 1, 1, ErrorCode::FETCH_SESSION_ID_NOT_FOUND),
            (0, 1, ErrorCode::FETCH_SESSION_ID_NOT_FOUND),
        ] {
            let topics = consumer.topic(&[(0, 7)]);
            let wrong = FetchRequest { session_id, session_epoch, topics, ..right.clone() };
            let answer = consumer.send(&wrong).await;
            assert_eq!((answer.error_code, answer.session_id), (refused, 0));
        }
        consumer.produce(0, "a").await;
        assert_eq!(consumer.fetch(&[], &[]).await, shown(&[(0, "a")]));
        // The end of the session, and a request of its own.
        let topics = consumer.topic(&[(0, 0)]);
        let last = FetchRequest { session_epoch: -1, topics, ..consumer.request(&[], &[]) };
        let answer = consumer.send(&last).await;
        assert_eq!((answer.error_code, answer.session_id), (ErrorCode::NONE, 0));
        assert_eq!(answer.responses.len(), 1);
        let late = consumer.request(&[], &[]);
        let answer = consumer.send(&late).await;
        assert_eq!(answer.error_code, ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
        broker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_by_name_cannot_go_on_by_id() {
    let broker = Broker::start().await;
    let mut consumer = consumer(&broker, 12).await;
    consumer.fetch(&[(0, 0)], &[]).await;
    consumer.version = 13;
    let request = consumer.request(&[], &[]);
    let answer = consumer.send(&request).await;
    assert_eq!(answer.error_code, ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR);
    broker.stop().await;
}

/// SESSION-4.
#[tokio::test(flavor = "multi_thread")]
async fn no_partition_starves_behind_one_that_fills_every_answer() {
    let broker = Broker::start().await;
    let mut consumer = consumer(&broker, 12).await;
    for partition in 0..3 {
        consumer.produce(partition, "x").await;
    }
    let mut request = consumer.request(&[(0, 0), (1, 0), (2, 0)], &[]);
    // Room for one batch in each answer, and the consumer never goes on.
    request.max_bytes = 1;
    let mut given = vec![];
    for _ in 0..6 {
        let answer = consumer.send(&request).await;
        let partitions = answer.responses.into_iter().flat_map(|topic| topic.partitions);
        let with_records =
            partitions.filter(|data| data.records.as_ref().is_some_and(|bytes| !bytes.is_empty()));
        given.extend(with_records.map(|data| data.partition_index));
        consumer.session_id = answer.session_id;
        consumer.epoch += 1;
        request = FetchRequest { max_bytes: 1, ..consumer.request(&[], &[]) };
    }
    assert_eq!(given, [0, 1, 2, 0, 1, 2]);
    broker.stop().await;
}

/// BUDGET-6: of what is named twice the last word holds, as in Apache Kafka.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_is_named_again_is_told_of_once() {
    for version in VERSIONS {
        let broker = Broker::start().await;
        let mut consumer = consumer(&broker, version).await;
        for value in ["a", "b"] {
            consumer.produce(0, value).await;
        }
        consumer.produce(1, "c").await;
        for session_epoch in [-1, 0] {
            let mut request = consumer.request(&[(0, 0), (1, 0), (0, 0)], &[]);
            request.session_epoch = session_epoch;
            request.topics.extend(consumer.topic(&[(0, 1), (2, 0)]));
            let answer = consumer.send(&request).await;
            consumer.session_id = answer.session_id;
            let partitions = answer.responses.into_iter().flat_map(|topic| topic.partitions);
            let told = partitions.map(|data| {
                let records = data.records.expect("records").into_bytes();
                (data.partition_index, values_of(&records, 0).join(" "))
            });
            assert_eq!(told.collect::<Vec<_>>(), shown(&[(1, "c"), (0, "b"), (2, "")]));
        }
        // The session has each once, too, and the answers are those of its partitions.
        consumer.epoch = 1;
        consumer.produce(2, "d").await;
        assert_eq!(consumer.fetch(&[(0, 2)], &[]).await, shown(&[(2, "d"), (1, "c")]));
        broker.stop().await;
    }
}
