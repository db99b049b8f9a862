//! `resources`: the APIs that routes protect, as clients know them.

use super::super::decode::{OneOrMore, Required, mirror};
use super::super::origin::IssuerUrl;
use super::super::source::At;

mirror! {
    struct RawResource {
        /// The URL that clients use, byte by byte.
        url: Required<IssuerUrl>,
        /// Shown to people.
        name: Option<At<String>>,
        /// Scopes besides those that the rules of its routes name.
        scopes: Option<At<OneOrMore<String>>>,
    }
}
