//! For tests: the same bytes, cut in many ways.

use bytes::BytesMut;

use super::fault::WireFault;

/// The text of what a reader gives for `bytes` and, behind ` + `, of what it leaves; the name of a fault; or
/// `incomplete`. The bytes come whole, byte by byte, and in every two parts; all must give the same.
#[track_caller]
pub(super) fn read_split<R>(bytes: &[u8], reader: impl Fn() -> R) -> String
where
    R: FnMut(&mut BytesMut) -> Result<Option<String>, WireFault>,
{
    let whole = read_parts([bytes], reader());
    assert_eq!(read_parts(bytes.chunks(1), reader()), whole, "byte by byte: {}", bytes.escape_ascii());
    for at in 1..bytes.len() {
        let (left, right) = bytes.split_at(at);
        assert_eq!(read_parts([left, right], reader()), whole, "cut at {at}: {}", bytes.escape_ascii());
    }
    whole
}

fn read_parts<'a, R>(parts: impl IntoIterator<Item = &'a [u8]>, mut read: R) -> String
where
    R: FnMut(&mut BytesMut) -> Result<Option<String>, WireFault>,
{
    let (mut buffer, mut given) = (BytesMut::new(), None);
    for part in parts {
        buffer.extend_from_slice(part);
        if given.is_none() {
            match read(&mut buffer) {
                Ok(text) => given = text,
                Err(fault) => return fault.name().to_owned(),
            }
        }
    }
    let Some(given) = given else { return "incomplete".to_owned() };
    if buffer.is_empty() { given } else { format!("{given} + {}", buffer.escape_ascii()) }
}
