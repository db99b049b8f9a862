//! Random numbers for choices that must be evenly distributed, but need not be secret.

/// A number in `0..below`, each as often as any other.
pub(crate) fn draw(below: u64) -> u64 {
    fastrand::u64(..below)
}

/// The position of a key in `0..below`: always the same, and independent of that of neighbouring keys.
pub(crate) fn position(key: u128, below: u64) -> u64 {
    within(spread((key as u64) ^ spread((key >> 64) as u64)), below)
}

/// Every bit of the result depends on every bit of the number (splitmix64).
fn spread(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}

/// Keeps the order: a number in the lower half of one range is in the lower half of any.
fn within(number: u64, below: u64) -> u64 {
    ((u128::from(number) * u128::from(below)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lots_and_places_are_spread_evenly() {
        let mut drawn = [0; 10];
        (0..10_000).for_each(|_| drawn[draw(10) as usize] += 1);
        let mut placed = [0; 10];
        // As neighbouring addresses are.
        (0..10_000_u128).for_each(|key| placed[position(0xffff_0a00_0000 + key, 10) as usize] += 1);
        for counts in [drawn, placed] {
            assert!(counts.iter().all(|count| (800..1200).contains(count)), "{counts:?}");
        }
    }
}
