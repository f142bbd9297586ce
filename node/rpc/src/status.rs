//! Statuses as the API promises them: each with `google.rpc.ErrorInfo`, and
//! with field violations or a retry delay where they apply.

use std::collections::HashMap;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// The domain of every reason that Pithead gives.
pub const DOMAIN: &str = "pithead";

fn with_reason(code: Code, reason: &str, message: impl Into<String>) -> Status {
    let details = ErrorDetails::with_error_info(reason, DOMAIN, HashMap::new());
    Status::with_error_details(code, message, details)
}

/// A field of the request can't be used: INVALID_ARGUMENT with the violation.
#[must_use]
pub fn invalid(field: &str, description: impl Into<String>) -> Status {
    let description = description.into();
    let mut details = ErrorDetails::with_bad_request_violation(field, description.clone());
    details.set_error_info("INVALID_ARGUMENT", DOMAIN, HashMap::new());
    Status::with_error_details(
        Code::InvalidArgument,
        format!("{field}: {description}"),
        details,
    )
}

/// What was asked for does not exist.
#[must_use]
pub fn not_found(reason: &str, message: impl Into<String>) -> Status {
    with_reason(Code::NotFound, reason, message)
}

/// The node can't answer now; the same call may succeed later.
#[must_use]
pub fn unavailable(reason: &str, message: impl Into<String>) -> Status {
    with_reason(Code::Unavailable, reason, message)
}

/// The node is far behind the network: UNAVAILABLE, with how far.
#[must_use]
pub fn syncing(height: u64, best_header_height: u64) -> Status {
    let missing = if best_header_height > height {
        format!("it has block {height} of {best_header_height}")
    } else {
        format!("its chain of {height} blocks has too little work")
    };
    let heights = [
        ("height", height),
        ("best_header_height", best_header_height),
    ];
    let heights = heights.map(|(name, value)| (name.to_owned(), value.to_string()));
    let details = ErrorDetails::with_error_info("SYNCING", DOMAIN, HashMap::from(heights));
    Status::with_error_details(
        Code::Unavailable,
        format!("the node is syncing: {missing}; mine for another node until it has caught up"),
        details,
    )
}

/// This version does not serve the method.
#[must_use]
pub fn unimplemented(message: impl Into<String>) -> Status {
    with_reason(Code::Unimplemented, "NOT_SERVED_YET", message)
}

/// The system's state does not allow the call.
#[must_use]
pub fn failed_precondition(reason: &str, message: impl Into<String>) -> Status {
    with_reason(Code::FailedPrecondition, reason, message)
}

/// Something broke inside the node.
#[must_use]
pub fn internal(message: impl Into<String>) -> Status {
    with_reason(Code::Internal, "INTERNAL", message)
}

/// The caller showed a token, but not the right one.
#[must_use]
pub fn permission_denied(reason: &str, message: impl Into<String>) -> Status {
    with_reason(Code::PermissionDenied, reason, message)
}

/// The caller showed no token.
#[must_use]
pub fn unauthenticated(reason: &str, message: impl Into<String>) -> Status {
    with_reason(Code::Unauthenticated, reason, message)
}

/// The caller took too much.
#[must_use]
pub fn resource_exhausted(reason: &str, message: impl Into<String>) -> Status {
    with_reason(Code::ResourceExhausted, reason, message)
}

/// The caller took too much, and may come back after `delay`.
#[must_use]
pub fn retry_after(reason: &str, message: impl Into<String>, delay: Duration) -> Status {
    let mut details = ErrorDetails::with_retry_info(Some(delay));
    details.set_error_info(reason, DOMAIN, HashMap::new());
    Status::with_error_details(Code::ResourceExhausted, message, details)
}
