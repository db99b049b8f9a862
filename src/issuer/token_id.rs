//! The ids of new tokens.

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand;
use base64::Engine as _;

use crate::jose::BASE64URL;

/// 128 random bits.
pub(super) fn token_id() -> Result<String, Unspecified> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes)?;
    Ok(BASE64URL.encode(bytes))
}
