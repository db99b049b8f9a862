//! Whether 32 bytes are an Ed25519 public key that is worth anything: a point of the curve (RFC 8032 §5.1.3), and none of the
//! few of small order, for which anyone can sign.
//!
//! The library takes any 32 bytes for a key and lets every signature fail; an operator would look for the fault in the tokens.
//! Keys are public, so that nothing here needs to take the same time for all of them.

/// A number below 2²⁵⁵ − 19, least significant part first.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Field([u64; 4]);

pub(super) fn is_sound(encoded: &[u8]) -> bool {
    let Some(y) = y(encoded) else {
        return false;
    };
    let yy = y.times(y);
    // x² = above / below.
    let above = yy.plus(MINUS_ONE);
    let dyy = D.times(yy);
    let below = dyy.plus(ONE);
    let on_curve = above.times(below).is_square();
    // Orders 1 and 2 have x = 0, order 4 has y = 0, and doubling a point of order 8 gives one of order 4.
    let small = above == ZERO || y == ZERO || dyy.times(yy).plus(yy).plus(yy) == ONE;
    on_curve && !small
}

/// The coordinate, whose last bit is the sign of the other one.
fn y(encoded: &[u8]) -> Option<Field> {
    let bytes: [u8; 32] = encoded.try_into().ok()?;
    let mut parts = [0; 4];
    for (part, bytes) in parts.iter_mut().zip(bytes.chunks_exact(8)) {
        *part = u64::from_le_bytes(bytes.try_into().ok()?);
    }
    parts[3] &= u64::MAX >> 1;
    (!is_less(P, parts) && parts != P).then_some(Field(parts))
}

const P: [u64; 4] = [u64::MAX - 18, u64::MAX, u64::MAX, u64::MAX >> 1];
const ZERO: Field = Field([0; 4]);
const ONE: Field = Field([1, 0, 0, 0]);
const MINUS_ONE: Field = Field([P[0] - 1, P[1], P[2], P[3]]);
/// −121665 / 121666.
const D: Field = Field([0x75eb_4dca_1359_78a3, 0x0070_0a4d_4141_d8ab, 0x8cc7_4079_7779_e898, 0x5203_6cee_2b6f_fe73]);

impl Field {
    fn plus(self, other: Self) -> Self {
        let mut sum = [0; 4];
        let mut carry = 0;
        for (place, (a, b)) in sum.iter_mut().zip(self.0.into_iter().zip(other.0)) {
            (*place, carry) = split(u128::from(a) + u128::from(b) + u128::from(carry));
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
        // 2²⁵⁶ is 38 here; what is carried out is folded in again.
        loop {
            let mut carry = 0;
            for (place, factor) in sum.iter_mut().zip(factors) {
                (*place, carry) = split(u128::from(*place) + 38 * u128::from(factor) + u128::from(carry));
            }
            if carry == 0 {
                return Self(reduced(sum));
            }
            factors = [carry, 0, 0, 0];
        }
    }

    /// Euler's criterion; 0 is no square here. The exponent, 2²⁵⁴ − 10, is all ones but for its last bits, 0110.
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
    #[expect(clippy::cast_possible_truncation, reason = "the lower half is what is meant")]
    (wide as u64, (wide >> 64) as u64)
}

fn reduced(mut parts: [u64; 4]) -> [u64; 4] {
    while !is_less(parts, P) {
        let mut borrowed = false;
        for (part, p) in parts.iter_mut().zip(P) {
            let (less, first) = part.overflowing_sub(p);
            let (less, second) = less.overflowing_sub(u64::from(borrowed));
            (*part, borrowed) = (less, first || second);
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
            assert!(is_sound(&x), "{x:?}");
        }
        // RFC 8032 §7.1.
        assert!(is_sound(&hex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")));
    }

    #[test]
    fn what_is_no_point_is_not_sound() {
        // About half of all numbers are no coordinate; RFC 8032 takes none of the prime's size or more.
        let sound = (2..200).filter(|n| is_sound(&[&[*n][..], &[0; 31]].concat())).count();
        assert!((70..130).contains(&sound), "{sound}");
        for bad in [vec![], vec![9; 31], vec![9; 33], vec![0xff; 32]] {
            assert!(!is_sound(&bad), "{bad:?}");
        }
        assert!(!is_sound(&[&[0xf0][..], &[0xff; 30], &[0x7f]].concat()), "3, written as 3 more than the prime");
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
            assert!(!is_sound(&bytes), "{y}");
        }
    }
}
