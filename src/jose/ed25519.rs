//! Checks that 32 bytes are a usable Ed25519 public key: a point on the curve (RFC 8032 §5.1.3) that is not of small
//! order. For a key of small order, anyone can make valid signatures.
//!
//! The crypto library accepts any 32 bytes as a key, and then every signature fails. An operator would look for the
//! fault in the tokens. Keys are public, so this code need not run in constant time.

/// A number modulo 2²⁵⁵ − 19, least significant limb first.
#[derive(Clone, Copy, PartialEq, Eq)]
struct FieldElement([u64; 4]);

pub(super) fn is_valid_point(encoded: &[u8]) -> bool {
    let Some(y) = y(encoded) else {
        return false;
    };
    let yy = y.times(y);
    // x² = numerator / denominator.
    let numerator = yy.plus(MINUS_ONE);
    let dyy = D.times(yy);
    let denominator = dyy.plus(ONE);
    let on_curve = numerator.times(denominator).is_square();
    // Orders 1 and 2 have x = 0, order 4 has y = 0, and doubling a point of order 8 gives one of order 4.
    let small = numerator == ZERO || y == ZERO || dyy.times(yy).plus(yy).plus(yy) == ONE;
    on_curve && !small
}

/// Decodes the y coordinate. The last bit of the encoding is the sign of x and is ignored.
fn y(encoded: &[u8]) -> Option<FieldElement> {
    let bytes: [u8; 32] = encoded.try_into().ok()?;
    let mut parts = [0; 4];
    for (part, bytes) in parts.iter_mut().zip(bytes.chunks_exact(8)) {
        *part = u64::from_le_bytes(bytes.try_into().ok()?);
    }
    parts[3] &= u64::MAX >> 1;
    (!is_less(P, parts) && parts != P).then_some(FieldElement(parts))
}

const P: [u64; 4] = [u64::MAX - 18, u64::MAX, u64::MAX, u64::MAX >> 1];
const ZERO: FieldElement = FieldElement([0; 4]);
const ONE: FieldElement = FieldElement([1, 0, 0, 0]);
const MINUS_ONE: FieldElement = FieldElement([P[0] - 1, P[1], P[2], P[3]]);
/// −121665 / 121666.
const D: FieldElement =
    FieldElement([0x75eb_4dca_1359_78a3, 0x0070_0a4d_4141_d8ab, 0x8cc7_4079_7779_e898, 0x5203_6cee_2b6f_fe73]);

impl FieldElement {
    fn plus(self, other: Self) -> Self {
        let mut sum = [0; 4];
        let mut carry = 0;
        for (limb, (a, b)) in sum.iter_mut().zip(self.0.into_iter().zip(other.0)) {
            (*limb, carry) = split(u128::from(a) + u128::from(b) + u128::from(carry));
        }
        // Two numbers below 2²⁵⁵ leave no carry.
        Self(reduced(sum))
    }

    fn times(self, other: Self) -> Self {
        let mut wide = [0; 8];
        for (i, a) in self.0.into_iter().enumerate() {
            let mut carry = 0;
            for (j, b) in other.0.into_iter().enumerate() {
                let product = u128::from(a) * u128::from(b);
                (wide[i + j], carry) = split(product + u128::from(wide[i + j]) + u128::from(carry));
            }
            wide[i + 4] = carry;
        }
        let (low, high) = wide.split_at(4);
        let mut sum = [low[0], low[1], low[2], low[3]];
        let mut factors = [high[0], high[1], high[2], high[3]];
        // 2²⁵⁶ is congruent to 38; the carry is multiplied by 38 and added again.
        loop {
            let mut carry = 0;
            for (limb, factor) in sum.iter_mut().zip(factors) {
                (*limb, carry) = split(u128::from(*limb) + 38 * u128::from(factor) + u128::from(carry));
            }
            if carry == 0 {
                return Self(reduced(sum));
            }
            factors = [carry, 0, 0, 0];
        }
    }

    /// Euler's criterion; 0 does not count as a square. The exponent 2²⁵⁴ − 10 is all ones except its last bits, 0110.
    fn is_square(self) -> bool {
        let mut power = ONE;
        for bit in (0..254).rev() {
            power = power.times(power);
            if !matches!(bit, 0 | 3) {
                power = power.times(self);
            }
        }
        power == ONE
    }
}

fn split(wide: u128) -> (u64, u64) {
    #[expect(clippy::cast_possible_truncation, reason = "the lower half is wanted")]
    (wide as u64, (wide >> 64) as u64)
}

fn reduced(mut parts: [u64; 4]) -> [u64; 4] {
    while !is_less(parts, P) {
        let mut borrowed = false;
        for (part, p) in parts.iter_mut().zip(P) {
            let (difference, first) = part.overflowing_sub(p);
            let (difference, second) = difference.overflowing_sub(u64::from(borrowed));
            (*part, borrowed) = (difference, first || second);
        }
    }
    parts
}

fn is_less(a: [u64; 4], b: [u64; 4]) -> bool {
    a.iter().rev().lt(b.iter().rev())
}

#[cfg(test)]
mod tests {
    use super::super::signing::SigningKey;
    use super::*;
    use crate::jose::BASE64URL;
    use crate::jose::algorithm::Algorithm;
    use base64::Engine as _;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    #[test]
    fn real_keys_are_sound() {
        for _ in 0..50 {
            let (key, _) = SigningKey::generate(Algorithm::EdDsa).unwrap();
            let x = BASE64URL.decode(key.public_jwk()["x"].as_str().unwrap()).unwrap();
            assert!(is_valid_point(&x), "{x:?}");
        }
        // RFC 8032 §7.1.
        assert!(is_valid_point(&hex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")));
    }

    #[test]
    fn an_invalid_point_is_not_sound() {
        // About half of all numbers are not a coordinate. RFC 8032 refuses numbers not below the prime.
        let sound = (2..200).filter(|n| is_valid_point(&[&[*n][..], &[0; 31]].concat())).count();
        assert!((70..130).contains(&sound), "{sound}");
        for bad in [vec![], vec![9; 31], vec![9; 33], vec![0xff; 32]] {
            assert!(!is_valid_point(&bad), "{bad:?}");
        }
        assert!(!is_valid_point(&[&[0xf0][..], &[0xff; 30], &[0x7f]].concat()), "3, encoded as the prime plus 3");
    }

    #[test]
    fn points_of_small_order_are_not_sound() {
        for (y, sign) in [
            ("0100000000000000000000000000000000000000000000000000000000000000", 0),
            ("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", 0),
            ("0000000000000000000000000000000000000000000000000000000000000000", 0),
            ("0000000000000000000000000000000000000000000000000000000000000000", 0x80),
            ("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05", 0),
            ("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05", 0x80),
            ("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a", 0),
            ("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a", 0x80),
        ] {
            let mut bytes = hex(y);
            bytes[31] |= sign;
            assert!(!is_valid_point(&bytes), "{y}");
        }
    }
}
