//! Reads gRPC statuses: the words for a failed call, and whether the failure says
//! anything about the solution that was handed in.

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// Whether the failure is one of the connection and says nothing about the solution.
///
/// The solution is then handed in again over a new connection, for which the token is
/// read again.
pub(super) fn is_about_the_connection(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable
            | Code::Cancelled
            | Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unauthenticated
            | Code::PermissionDenied
    )
}

/// The status's message, or the name of its code if it has no message.
pub(super) fn describe(status: &Status) -> String {
    match status.message() {
        "" => status.code().description().to_owned(),
        message => message.to_owned(),
    }
}

/// The status's message, followed by the request's fields that it finds wrong.
pub(super) fn with_violations(status: &Status) -> String {
    let mut text = status.message().to_owned();
    for violation in status
        .get_details_bad_request()
        .into_iter()
        .flat_map(|details| details.field_violations)
    {
        text.push_str(&format!("; {}: {}", violation.field, violation.description));
    }
    text
}
