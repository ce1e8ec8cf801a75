//! Settings of librdkafka, which is the independent client here: short waits for a broker that is
//! killed all the time, and every check that it has.

use std::time::Duration;

use rdkafka::config::ClientConfig;

pub(crate) const TOPIC: &str = "torture";
pub(crate) const GROUP: &str = "torture-group";
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

fn common(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    config.set("reconnect.backoff.ms", "5").set("reconnect.backoff.max.ms", "25");
    config.set("retry.backoff.ms", "10").set("retry.backoff.max.ms", "50");
    // The broker is expected to be away: its absence is no news.
    config.set("log_level", "0");
    config
}

pub(crate) fn producer(bootstrap: &str) -> ClientConfig {
    let mut config = common(bootstrap);
    // Longer than any wait for it: what became of a record is the broker's to say.
    config.set("message.timeout.ms", "60000").set("acks", "all");
    config
}

pub(crate) fn consumer(bootstrap: &str) -> ClientConfig {
    let mut config = common(bootstrap);
    config.set("group.id", GROUP).set("enable.auto.commit", "false");
    config.set("auto.offset.reset", "error").set("check.crcs", "true");
    config.set("fetch.wait.max.ms", "50").set("fetch.error.backoff.ms", "5");
    config
}
