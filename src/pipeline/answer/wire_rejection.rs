//! The status of the answer to a request whose head breaks a rule of HTTP.

use http::StatusCode;

use crate::http1::fault::WireFault;

pub(crate) fn malformed_status(fault: WireFault) -> StatusCode {
    match fault {
        WireFault::TargetTooLong => StatusCode::URI_TOO_LONG,
        WireFault::Coding => StatusCode::NOT_IMPLEMENTED,
        WireFault::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
        fault if fault.is_size() => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        _ => StatusCode::BAD_REQUEST,
    }
}
