//! DeleteRecords on the wire: what is below the offset is gone for good, and nothing else.

use crate::common;

use common::{Broker, ends, records};
use lossproof_wire::*;

#[tokio::test(flavor = "multi_thread")]
async fn records_below_the_offset_are_gone_after_a_restart_too() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    client.create("t", 1).await;
    for value in ["a", "b", "c"] {
        client.produce("t", 0, records(&[value])).await;
    }
    for version in ends(ApiKey::DeleteRecords) {
        let (low, error) = client.delete_records_in("t", 0, 4, version).await;
        assert_eq!((low, error), (-1, ErrorCode::OFFSET_OUT_OF_RANGE), "beyond the end");
        let (low, error) = client.delete_records_in("t", 0, -2, version).await;
        assert_eq!((low, error), (-1, ErrorCode::OFFSET_OUT_OF_RANGE));
        let (low, error) = client.delete_records_in("t", 1, 0, version).await;
        assert_eq!((low, error), (-1, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
    }
    assert_eq!(client.delete_records("t", 0, 1).await, (1, ErrorCode::NONE));
    assert_eq!(client.delete_records("t", 0, 0).await, (1, ErrorCode::NONE), "it never goes back");
    let broker = broker.power_cut().await;
    let mut client = broker.client().await;
    let fetched = client.fetch("t", 0, 0).await;
    assert_eq!(fetched.error_code, ErrorCode::OFFSET_OUT_OF_RANGE);
    assert_eq!(fetched.log_start_offset, 1);
    assert_eq!(client.delete_records("t", 0, -1).await, (3, ErrorCode::NONE), "all of them");
    let next = client.produce("t", 0, records(&["d"])).await;
    assert_eq!((next.base_offset, next.error_code), (3, ErrorCode::NONE), "none is given again");
    broker.stop().await;
}
