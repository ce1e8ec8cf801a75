//! What the broker does not serve yet. A step that stands here must fail, and is reported as open;
//! once it passes its entry must go, or the run fails.

/// Set to true with the broker that has them: then each client that has transactions must pass.
const TRANSACTIONS: bool = false;

/// Step of the script, and the request that it waits for.
const GAPS: [(&str, &str); 8] = [
    ("add partitions", "CreatePartitions"),
    ("alter configs", "IncrementalAlterConfigs"),
    ("list groups", "ListGroups"),
    ("describe group", "DescribeGroups"),
    ("reset offsets", "DescribeGroups"),
    ("delete offsets", "OffsetDelete"),
    ("delete group", "DeleteGroups"),
    ("delete records", "DeleteRecords"),
];

/// The request that a step waits for, if it is open.
pub(crate) fn gap(step: &str) -> Option<&'static str> {
    if step == "transactions" {
        return (!TRANSACTIONS).then_some("InitProducerId with a transactional id");
    }
    GAPS.iter().find(|(open, _)| *open == step).map(|(_, api)| *api)
}
