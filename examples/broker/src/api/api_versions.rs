//! ApiVersions: what a client may ask for.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};

use super::{Reply, SERVED, answer, is_served};
use crate::request::Request;

pub(crate) fn handle(mut request: Request) -> anyhow::Result<Reply> {
    if is_served(request.api, request.version) {
        request.body::<ApiVersionsRequest>()?;
        return answer(&request, &response(0));
    }
    // A client that is newer than the broker has nothing but this to learn that by: the oldest version of the answer.
    request.version = 0;
    answer(&request, &response(ResponseError::UnsupportedVersion.code()))
}

fn response(error_code: i16) -> ApiVersionsResponse {
    let served = SERVED.iter().map(|(api, versions)| {
        ApiVersion::default()
            .with_api_key(*api as i16)
            .with_min_version(versions.min)
            .with_max_version(versions.max)
    });
    ApiVersionsResponse::default().with_error_code(error_code).with_api_keys(served.collect())
}
