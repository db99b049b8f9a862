//! `routes[].cors`: access for pages of other origins.

use super::super::decode::{OneOrMore, Required, mirror};
use super::super::source::At;
use super::super::values::{Period, seconds};

mirror! {
    struct RawCors {
        origins: Required<OneOrMore<String>>,
        /// Methods that a page may use. Default: the route's.
        methods: Option<At<OneOrMore<String>>>,
        /// Of requests. Default: `Authorization` and `Content-Type`.
        headers: Option<At<Vec<At<String>>>>,
        /// Of responses.
        expose: Vec<At<String>>,
        credentials: At<bool> = false,
        max_age: At<Period> = seconds(600),
    }
}
