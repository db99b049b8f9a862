//! Draws lots: for what need not be secret, only spread.

/// A number in `0..below`, each as often as any other.
pub(crate) fn draw(below: u64) -> u64 {
    fastrand::u64(..below)
}

/// Where in `0..below` a key has its place: always the same, and unlike that of its neighbours.
pub(crate) fn place(key: u128, below: u64) -> u64 {
    within(spread((key as u64) ^ spread((key >> 64) as u64)), below)
}

/// Every bit of the result hangs on every bit of the number (splitmix64).
fn spread(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}

/// Keeps the order: who lies in the lower half of one range does so in any.
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
        (0..10_000_u128).for_each(|key| placed[place(0xffff_0a00_0000 + key, 10) as usize] += 1);
        for counts in [drawn, placed] {
            assert!(counts.iter().all(|count| (800..1200).contains(count)), "{counts:?}");
        }
    }
}
