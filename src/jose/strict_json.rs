//! Strict parsing of JSON objects from untrusted sources.
//!
//! Refuses duplicate members at every level, deep nesting, very many objects and lists, and trailing bytes. If two
//! parsers keep different ones of two duplicate members, a token has a different meaning for each.

use std::cell::Cell;
use std::fmt;

use serde::Deserializer as _;
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;
use serde_json::{Map, Number, Value};

#[derive(Debug, thiserror::Error)]
#[error("not a strict JSON object: {0}")]
pub(crate) struct NotStrict(#[from] serde_json::Error);

impl NotStrict {
    /// The fault and its place. Unlike the text of the error it never contains a value of the document.
    pub(crate) fn without_content(&self) -> String {
        let text = self.0.to_string();
        let fault = match self.0.classify() {
            Category::Eof => "an early end",
            Category::Syntax | Category::Io => "a fault of JSON syntax",
            Category::Data => FAULTS.into_iter().find(|fault| text.starts_with(fault)).unwrap_or("no JSON object"),
        };
        format!("{fault} at line {} column {}", self.0.line(), self.0.column())
    }
}

const TOO_MANY_MEMBERS: &str = "too many members";
const DUPLICATE: &str = "a duplicate member";
const NO_NUMBER: &str = "not a number";
const TOO_MANY_NESTED: &str = "too many objects and lists";
const TOO_DEEP: &str = "nested too deep";
const FAULTS: [&str; 5] = [TOO_MANY_MEMBERS, DUPLICATE, NO_NUMBER, TOO_MANY_NESTED, TOO_DEEP];

/// Deeper nesting is refused. This is far below any risk to the stack.
const MAX_DEPTH: u8 = 16;
/// An object with more members at the top level is refused.
const MAX_MEMBERS: usize = 64;
/// More objects and lists than this are refused: parsed, each takes a hundred times the memory of its text.
const MAX_NESTED: usize = 256;

/// Reads one JSON object that fills all of `bytes`.
pub(crate) fn object(bytes: &[u8]) -> Result<Map<String, Value>, NotStrict> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let object = deserializer.deserialize_map(Object {
        depth: MAX_DEPTH,
        members: MAX_MEMBERS,
        nested_left: &Cell::new(MAX_NESTED),
    })?;
    deserializer.end()?;
    Ok(object)
}

struct Object<'c> {
    depth: u8,
    members: usize,
    nested_left: &'c Cell<usize>,
}

struct Any<'c> {
    depth: u8,
    nested_left: &'c Cell<usize>,
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = Map<String, Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = access.next_key::<String>()? {
            if object.len() == self.members {
                return Err(A::Error::custom(TOO_MANY_MEMBERS));
            }
            let value = access.next_value_seed(Any { depth: self.depth, nested_left: self.nested_left })?;
            if object.insert(name, value).is_some() {
                return Err(A::Error::custom(DUPLICATE));
            }
        }
        Ok(object)
    }
}

impl<'de> DeserializeSeed<'de> for Any<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Any<'_> {
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
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom(NO_NUMBER))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let depth = self.deeper()?;
        let mut list = Vec::new();
        while let Some(item) = access.next_element_seed(Self { depth, nested_left: self.nested_left })? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<Value, A::Error> {
        let nested = Object { depth: self.deeper()?, members: usize::MAX, nested_left: self.nested_left };
        nested.visit_map(access).map(Value::Object)
    }
}

impl Any<'_> {
    /// The depth that is left within one more object or list.
    fn deeper<E: Error>(&self) -> Result<u8, E> {
        let left = self.nested_left.get().checked_sub(1).ok_or_else(|| E::custom(TOO_MANY_NESTED))?;
        self.nested_left.set(left);
        self.depth.checked_sub(1).ok_or_else(|| E::custom(TOO_DEEP))
    }
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

    #[test]
    fn a_fault_is_told_without_content() {
        let deep = format!("{{\"a\":{}", "[".repeat(99));
        for (text, fault) in [
            (r#"{"a":1,"a":2}"#, "a duplicate member at line 1 column "),
            (r#""secret""#, "no JSON object at line 1 column "),
            (r#"{"a":secret}"#, "a fault of JSON syntax at line 1 column "),
            (r#"{"a":"secret"#, "an early end at line 1 column "),
            (&deep, "nested too deep at line 1 column "),
            (r#"{"a":1} secret"#, "a fault of JSON syntax at line 1 column "),
        ] {
            let fault_of = object(text.as_bytes()).unwrap_err().without_content();
            assert!(fault_of.starts_with(fault) && !fault_of.contains("secret"), "{text}: {fault_of}");
        }
    }

    #[test]
    fn very_many_objects_and_lists_are_refused() {
        let lists = |count: usize| format!("{{\"a\":[{}]}}", vec!["[]"; count - 1].join(","));
        assert!(object(lists(MAX_NESTED).as_bytes()).is_ok());
        refuses(&lists(MAX_NESTED + 1));
        refuses(&lists(MAX_NESTED + 1).replace("[]", "{}"));
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
