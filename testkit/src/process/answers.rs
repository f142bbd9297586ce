//! What tests read from answers of the API: the items and the end of a stream, and the details
//! of an error.

use tonic::Status;
use tonic_types::StatusExt as _;

use super::program::PATIENCE;

/// The next item of a stream. It has to come in time and without an error.
pub async fn next<T>(stream: &mut tonic::Streaming<T>) -> T {
    tokio::time::timeout(PATIENCE, stream.message())
        .await
        .expect("an item in time")
        .expect("no error")
        .expect("the stream goes on")
}

/// Reads a stream to its end; returns the error that it ended with, if any.
pub async fn end_of<T>(stream: &mut tonic::Streaming<T>) -> Option<Status> {
    loop {
        let item = tokio::time::timeout(PATIENCE, stream.message()).await;
        match item.expect("an end in time") {
            Ok(Some(_)) => {}
            Ok(None) => return None,
            Err(status) => return Some(status),
        }
    }
}

/// The reason in a status's ErrorInfo, whose domain has to be Pithead's.
pub fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    let info = details.error_info().expect("an ErrorInfo");
    assert_eq!(info.domain, "pithead");
    info.reason.clone()
}

/// The field of a status's only violation.
pub fn violated_field(status: &Status) -> String {
    assert_eq!(status.code(), tonic::Code::InvalidArgument, "{status:?}");
    let details = status.get_error_details();
    let violations = &details
        .bad_request()
        .expect("a BadRequest")
        .field_violations;
    assert_eq!(violations.len(), 1);
    assert!(!violations[0].description.is_empty());
    violations[0].field.clone()
}
