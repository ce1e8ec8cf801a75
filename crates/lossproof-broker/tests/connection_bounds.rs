//! How many connections there may be, and how many from one address. (BROKER-3)

use crate::common;

use common::{Broker, eventually};

async fn is_served(broker: &Broker) -> Option<common::Client> {
    let mut client = broker.client().await;
    client.is_served().await.then_some(client)
}

/// Two connections are all there may be.
async fn a_third_is_closed_until_one_has_gone(broker: Broker) {
    let first = is_served(&broker).await.expect("the first");
    let second = is_served(&broker).await.expect("the second");
    assert!(is_served(&broker).await.is_none(), "BROKER-3");
    drop(second);
    // Its place is free once the broker has noticed.
    eventually("a place is free", async || is_served(&broker).await.is_some()).await;
    drop(first);
    broker.stop().await;
}

/// BROKER-3.
#[tokio::test(flavor = "multi_thread")]
async fn there_are_as_many_connections_as_there_may_be() {
    let broker = Broker::with(|config| {
        config.set("max.connections", "2").expect("a setting");
    });
    a_third_is_closed_until_one_has_gone(broker.await).await;
}

/// BROKER-3.
#[tokio::test(flavor = "multi_thread")]
async fn an_address_has_as_many_connections_as_it_may_have_and_gets_them_back() {
    let broker = Broker::with(|config| {
        config.set("max.connections.per.ip", "2").expect("a setting");
    });
    a_third_is_closed_until_one_has_gone(broker.await).await;
}
