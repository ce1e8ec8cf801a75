//! What the broker does not serve yet. A step that stands here must fail, and is reported as open;
//! once it passes its entry must go, or the run fails.

/// Step of the script, and the request that it waits for.
const GAPS: [(&str, &str); 0] = [];

/// The request that a step waits for, if it is open.
pub(crate) fn gap(step: &str) -> Option<&'static str> {
    GAPS.iter().find(|(open, _)| *open == step).map(|(_, api)| *api)
}
