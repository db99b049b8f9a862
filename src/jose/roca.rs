//! Recognises RSA moduli of the flawed key generator of Infineon's library (ROCA, CVE-2017-15361), whose keys can be
//! factored.
//!
//! Pure. Such primes have the form k·M + 65537^a mod M, with M the product of the first primes. So the modulus is a
//! power of 65537 modulo M: it has a discrete logarithm modulo each small prime, and these logarithms agree with each
//! other. A modulus of another generator passes by chance once in more than 2^167.

/// The fingerprint of `modulus`, big-endian, of 2048 bits or more: generators of such keys have at least these primes
/// in M.
pub(super) fn has_fingerprint(modulus: &[u8]) -> bool {
    let mut known: Vec<Logarithm> = Vec::new();
    for prime in (3..=LARGEST_PRIME).filter(|number| is_prime(*number)) {
        let Some(logarithm) = Logarithm::of(remainder(modulus, prime), prime) else {
            return false;
        };
        if !known.iter().all(|other| logarithm.agrees_with(other)) {
            return false;
        }
        known.push(logarithm);
    }
    true
}

const GENERATOR: u32 = 65537;
/// M has 126 primes for keys of 1984 to 3936 bits, and more for longer ones.
const LARGEST_PRIME: u32 = 701;

/// A power to which 65537 must be taken, modulo the order of its subgroup.
struct Logarithm {
    power: u32,
    order: u32,
}

impl Logarithm {
    /// `None` where the residue is no power of 65537.
    fn of(residue: u32, prime: u32) -> Option<Self> {
        let mut found = None;
        let (mut value, mut order) = (1, 0);
        loop {
            if value == residue {
                found = Some(order);
            }
            value = value * (GENERATOR % prime) % prime;
            order += 1;
            if value == 1 {
                return found.map(|power| Self { power, order });
            }
        }
    }

    /// Whether one power fits both (Chinese remainder theorem).
    fn agrees_with(&self, other: &Self) -> bool {
        let common = greatest_common_divisor(self.order, other.order);
        self.power % common == other.power % common
    }
}

fn remainder(number: &[u8], prime: u32) -> u32 {
    number.iter().fold(0, |rest, byte| (rest * 256 + u32::from(*byte)) % prime)
}

fn is_prime(number: u32) -> bool {
    (2..).take_while(|divisor| divisor * divisor <= number).all(|divisor| !number.is_multiple_of(divisor))
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
pub(super) mod tests {
    use base64::Engine as _;

    use super::super::BASE64URL;
    use super::*;

    /// Of `jws_rsa_roca_key`, Wycheproof's `json_web_key_test.json`.
    pub(in super::super) const WYCHEPROOF: &str = "AanFpofbj7KjD4Lf-N2hVMKR7yewSyXhhbirIMTGpfYEhZ_lnt5UoK98DnKIgArXGTu3MaW_HhFw16HGaTDUHqPrId7fe4r11CqRw09yBFuW79V8sYIwHdzCaWflUI6auImYbVfoN9_nD5n8N8SY9DwXw7mwZM9wREPXoDPgOoIWl6q_MPsp7n0zs3Z5ZaiQWOOzl1S9OhwAfSiiOwz6efnXEaxuTEtPd7BjSx7NaFka8Dx9U7YqXy2RFj1O9PjyaDGuRh7YXsX3iMUSP_wSyHQg_c_qHRtKUsNSGCT7OZg0hzm2KphtjnayKJvC64vAbROBR4Ubg6Bxg9IQVZ-QYyE";
    /// From a card: `mod03` of the test data of the detector that the finders of the flaw have published.
    const CARD: &str = "nc10IOQgwnCmgGDri1qnRXqfZkj4b6_tJ3XMH3muli8eY_G55RxV-epv3HMy6bAFjJ_y6x_ImFUCnPaq_iHmif6zisn_sS8c43G7XQ6armQWGrznS0JEv2jx7bRBH3VqCXyJKcFHQCReo1X4My0ao2u1DH3LRQXajeAuTlPTj43wYJfadSTfDfk9tI6sjMSvLToWJX6ysq3Ka6Rk5ZdPqSVQ0xsbq_Fh52ktALhuPdiG7KtKv74aj4zCY_9K9VzbRfQkmlGTkl9emD12LwtoAJQ-sCZ7CPQu0xHOH1yG6svIzk08t6L-4e9WQUI6HPQRTl7PUANKYKQSUjr55vSqEQ";

    fn modulus(text: &str) -> Vec<u8> {
        BASE64URL.decode(text).unwrap()
    }

    #[test]
    fn keys_of_the_flawed_generator_are_recognised() {
        assert!(has_fingerprint(&modulus(WYCHEPROOF)));
        assert!(has_fingerprint(&modulus(CARD)));
    }

    #[test]
    fn a_change_of_one_bit_takes_the_fingerprint_away() {
        for bit in [0, 1, 7, 1000, 2040] {
            let mut changed = modulus(CARD);
            let at = changed.len() - 1 - bit / 8;
            changed[at] ^= 1 << (bit % 8);
            assert!(!has_fingerprint(&changed), "{bit}");
        }
    }

    #[test]
    fn a_thousand_random_moduli_pass() {
        for _ in 0..1000 {
            let mut random = [0; 256];
            aws_lc_rs::rand::fill(&mut random).unwrap();
            random[0] |= 0x80;
            random[255] |= 1;
            assert!(!has_fingerprint(&random), "{random:?}");
        }
    }
}
