//! Strict parsing of JSON objects from untrusted sources.
//!
//! Refuses duplicate members at every level, deep nesting and trailing bytes. If two parsers keep different ones of two
//! duplicate members, a token has a different meaning for each.

use std::fmt;

use serde::Deserializer as _;
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

#[derive(Debug, thiserror::Error)]
#[error("not a strict JSON object: {0}")]
pub(crate) struct NotStrict(#[from] serde_json::Error);

/// Deeper nesting is refused. This is far below any risk to the stack.
const MAX_DEPTH: u8 = 16;
/// An object with more members at the top level is refused.
const MAX_MEMBERS: usize = 64;

/// Reads one JSON object that fills all of `bytes`.
pub(crate) fn object(bytes: &[u8]) -> Result<Map<String, Value>, NotStrict> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let object = deserializer.deserialize_map(Object { depth: MAX_DEPTH, members: MAX_MEMBERS })?;
    deserializer.end()?;
    Ok(object)
}

struct Object {
    depth: u8,
    members: usize,
}

struct Any {
    depth: u8,
}

impl<'de> Visitor<'de> for Object {
    type Value = Map<String, Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = access.next_key::<String>()? {
            if object.len() == self.members {
                return Err(A::Error::custom("too many members"));
            }
            let value = access.next_value_seed(Any { depth: self.depth })?;
            if object.insert(name, value).is_some() {
                return Err(A::Error::custom("duplicate member"));
            }
        }
        Ok(object)
    }
}

impl<'de> DeserializeSeed<'de> for Any {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Any {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not a number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let depth = deeper(self.depth)?;
        let mut list = Vec::new();
        while let Some(item) = access.next_element_seed(Self { depth })? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<Value, A::Error> {
        let nested = Object { depth: deeper(self.depth)?, members: usize::MAX };
        nested.visit_map(access).map(Value::Object)
    }
}

fn deeper<E: Error>(depth: u8) -> Result<u8, E> {
    depth.checked_sub(1).ok_or_else(|| E::custom("nested too deep"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn refuses(text: &str) {
        assert!(object(text.as_bytes()).is_err(), "{text:.60} was accepted");
    }

    #[test]
    fn duplicate_member_is_refused() {
        refuses(r#"{"a":1,"a":1}"#);
    }
    #[test]
    fn duplicate_member_behind_an_escape_is_refused() {
        refuses(r#"{"a":1,"\u0061":1}"#);
    }
    #[test]
    fn nested_duplicate_member_is_refused() {
        refuses(r#"{"x":[{"a":1,"a":2}]}"#);
    }
    #[test]
    fn trailing_bytes_are_refused() {
        refuses("{} {}");
    }
    #[test]
    fn byte_order_mark_is_refused() {
        refuses("\u{feff}{}");
    }
    #[test]
    fn comment_is_refused() {
        refuses("{/**/}");
    }
    #[test]
    fn lone_surrogate_is_refused() {
        refuses(r#"{"a":"\ud800"}"#);
    }
    #[test]
    fn array_is_refused() {
        refuses("[]");
    }
    #[test]
    fn depth_of_ten_thousand_is_refused() {
        refuses(&format!("{{\"a\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000)));
    }
    #[test]
    fn hundred_thousand_members_are_refused() {
        let members: Vec<String> = (0..100_000).map(|n| format!("\"{n}\":0")).collect();
        refuses(&format!("{{{}}}", members.join(",")));
    }

    proptest! {
        #[test]
        fn an_accepted_document_equals_the_result_of_serde_json(names in prop::collection::btree_map("[a-z]{1,6}", any::<i64>(), 0..20)) {
            let text = serde_json::to_string(&names).unwrap();
            let ours = Value::Object(object(text.as_bytes()).unwrap());
            prop_assert_eq!(ours, serde_json::from_str::<Value>(&text).unwrap());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = object(&bytes);
        }
    }
}
