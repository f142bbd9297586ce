//! Reads gRPC statuses: what a failed call says, and whether it says anything about
//! the solution that was handed in.

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// Whether the failure says nothing about the solution: it is worth handing in
/// again over a new connection, with a token read anew.
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

/// A status in words.
pub(super) fn describe(status: &Status) -> String {
    match status.message() {
        "" => status.code().description().to_owned(),
        message => message.to_owned(),
    }
}

/// The status's text, with the fields at fault if it names any.
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
