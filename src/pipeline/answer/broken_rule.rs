//! The rule of HTTP that a refused request breaks, by its name in the audit log.

use super::rejection::Rejection;
use crate::pipeline::request::headers::FieldFault;
use crate::pipeline::request::origin_part::{OriginFault, OriginPart};
use crate::pipeline::request::upgrade::UpgradeFault;

/// `None` if the request is refused for another reason.
pub(crate) fn broken_rule(rejection: &Rejection) -> Option<&'static str> {
    match rejection {
        Rejection::Wire(fault) => Some(fault.name()),
        Rejection::Ambiguous(ambiguous) => Some(ambiguous.name()),
        Rejection::Header(fault) => Some(of_field(*fault)),
        Rejection::Misdirected => Some("server_name"),
        Rejection::Upstream(fault) => fault.rule(),
        // Most refusals break no rule of HTTP.
        _ => None,
    }
}

fn of_field(fault: FieldFault) -> &'static str {
    match fault {
        FieldFault::LookAlike => "look_alike",
        FieldFault::Connection => "connection_lists_protected",
        FieldFault::Contradiction => "forwarded_contradiction",
        FieldFault::PublicOrigin(fault) => match fault {
            OriginFault::Contradiction(OriginPart::Scheme) => "forwarded_scheme_contradiction",
            OriginFault::Contradiction(OriginPart::Host) => "forwarded_host_contradiction",
            OriginFault::Contradiction(OriginPart::Port) => "forwarded_port_contradiction",
            OriginFault::Invalid(OriginPart::Scheme) => "forwarded_scheme",
            OriginFault::Invalid(OriginPart::Host) => "forwarded_host",
            OriginFault::Invalid(OriginPart::Port) => "forwarded_port",
        },
        FieldFault::ClientCertificate => "client_cert",
        FieldFault::GrpcTimeout => "grpc_timeout",
        FieldFault::TooLarge => "field_too_large",
        FieldFault::Repeated => "repeated_field",
        FieldFault::Encoding => "field_encoding",
        FieldFault::Upgrade(upgrade) => match upgrade {
            UpgradeFault::Several => "several_protocols",
            UpgradeFault::Method => "upgrade_method",
            UpgradeFault::Body => "upgrade_body",
            UpgradeFault::Key => "websocket_key",
            UpgradeFault::Version => "websocket_version",
        },
    }
}
