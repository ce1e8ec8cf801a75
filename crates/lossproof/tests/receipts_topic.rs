//! The topic of the receipts has to keep everything (AUDIT-5): a client makes it so by itself, on
//! a broker that makes no topic for being asked about it.

use crate::support;

use std::time::Duration;

use lossproof_audit::report::RECEIPTS_TOPIC;
use lossproof_client::KEEP_EVERYTHING;
use lossproof_client::librdkafka::{self, ClientSettings, ProducerSettings};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, ConfigSource, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use support::Broker;

/// A client that gets no answer stays without one for ever.
const PATIENCE: Duration = Duration::from_mins(1);

#[test]
fn it_is_made_with_settings_that_keep_everything() {
    let scratch = tempfile::tempdir().unwrap();
    let arguments = ["--no-auto-create", "--partitions", "3", "--listen", "127.0.0.1:0"];
    let broker = Broker::start(&scratch.path().join("data"), &arguments);
    let settings = ProducerSettings::new(ClientSettings::new(broker.server.as_str()));
    let mut producer = librdkafka::producer(&settings).unwrap();
    let mut make = || producer.create_topic_without_retention(RECEIPTS_TOPIC, PATIENCE);
    assert_eq!((make(), make()), (Ok(true), Ok(false)), "and it is left as it is from then on");
    assert_eq!(producer.partition_count(RECEIPTS_TOPIC, PATIENCE), Ok(3));

    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &broker.server);
    let client: AdminClient<DefaultClientContext> = config.create().unwrap();
    let topic = ResourceSpecifier::Topic(RECEIPTS_TOPIC);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let described = client.describe_configs([&topic], &AdminOptions::new());
    let described = runtime.block_on(described).unwrap().pop().unwrap().unwrap();
    for (name, value) in KEEP_EVERYTHING {
        let set = described.get(name).unwrap();
        let set = (set.value.as_deref(), &set.source);
        assert_eq!(set, (Some(value), &ConfigSource::DynamicTopic), "{name}");
    }
}
