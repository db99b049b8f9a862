//! The spellings of addresses and networks.

use std::net::{IpAddr, SocketAddr};

use super::super::form::ValueForm;
use super::{Hint, ScalarValue};
use crate::network::{InvalidNetwork, Network};

impl ScalarValue for SocketAddr {
    fn expected() -> String {
        "an IP address and a port such as `0.0.0.0:8443` or `\"[::]:8443\"`".to_owned()
    }

    fn form() -> ValueForm {
        ValueForm::pattern(
            r"([0-9]{1,3}(\.[0-9]{1,3}){3}|\[[0-9A-Fa-f:.]+(%[0-9]+)?\]):[0-9]+",
            Self::expected(),
            &["0.0.0.0:8443", "[::]:8443"],
        )
    }

    fn parse(text: &str) -> Result<Self, Hint> {
        text.parse().map_err(|_| "")
    }
}

impl ScalarValue for IpAddr {
    fn expected() -> String {
        "an IP address such as `10.0.0.7` or `\"2001:db8::7\"`".to_owned()
    }

    fn form() -> ValueForm {
        let pattern = r"[0-9]{1,3}(\.[0-9]{1,3}){3}|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*";
        ValueForm::pattern(pattern, Self::expected(), &["10.0.0.7", "2001:db8::7"])
    }

    fn parse(text: &str) -> Result<Self, Hint> {
        match text.parse() {
            Ok(Self::V6(address)) if address.to_ipv4_mapped().is_some() => Err("write it as IPv4"),
            Ok(address) => Ok(address),
            Err(_) => Err(""),
        }
    }
}

impl ScalarValue for Network {
    fn expected() -> String {
        "a network such as `10.0.0.0/8` or `\"2001:db8::/32\"`, or an address".to_owned()
    }

    fn form() -> ValueForm {
        ValueForm::pattern(
            r"[0-9]{1,3}(\.[0-9]{1,3}){3}(/[0-9]{1,2})?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(/[0-9]{1,3})?",
            Self::expected(),
            &["10.0.0.0/8", "2001:db8::/32"],
        )
    }

    fn parse(text: &str) -> Result<Self, Hint> {
        Self::parse(text).map_err(|invalid| match invalid {
            InvalidNetwork::Syntax => "",
            InvalidNetwork::BitsBeyondPrefix => "the address has bits beyond the prefix",
            InvalidNetwork::Mapped => "write it as IPv4",
        })
    }
}
