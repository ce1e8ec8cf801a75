use lossproof_wire::{ApiKey, ApiVersion, ApiVersionsRequest, ApiVersionsResponse, ErrorCode};

use super::SERVED;
use crate::call::{Call, CallError, Reply};

pub(super) fn start(mut call: Call) -> Result<Reply, CallError> {
    let mut response = ApiVersionsResponse { api_keys: table(), ..Default::default() };
    if !ApiKey::ApiVersions.versions().contains(&call.version) {
        // The one request that may come in a version nobody knows here: the answer is in the first
        // version, and the table tells the client what to ask with.
        response.error_code = ErrorCode::UNSUPPORTED_VERSION;
        return call.ready_in(&response, 0);
    }
    let _: ApiVersionsRequest = call.decode()?;
    call.ready(&response)
}

fn table() -> Vec<ApiVersion> {
    let entries = SERVED.iter().map(|key| ApiVersion {
        api_key: key.code(),
        min_version: *key.versions().start(),
        max_version: *key.versions().end(),
    });
    entries.collect()
}
