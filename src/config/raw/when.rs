//! `routes[].when`: the header fields of the requests that a route is for.

use super::super::decode::{Named, OneOrMore, mirror};
use super::super::source::At;

mirror! {
    struct RawWhen {
        /// Fields and their values, of which a request must have one. All of them must hold.
        headers: Named<OneOrMore<String>>,
        /// Whether the service acts on its body without comparing it with the field.
        unverified: At<bool> = false,
    }
}
