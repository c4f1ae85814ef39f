//! Orders: positions sorted by code or by hash value.

/// Positions sorted by code, equal codes by position: the stable argsort.
///
/// ```
/// use scatterbrain_hash::sort_by_code;
/// assert_eq!(sort_by_code(&[7, 2, 7, 0]), [3, 1, 0, 2]);
/// ```
///
/// # Panics
/// If there are 2³² codes or more, which no family gives.
///
/// # Cost
/// One sort of 8-byte words, O(n log n), and 12 bytes a row.
pub fn sort_by_code(codes: &[u32]) -> Vec<u32> {
    sort_by_word(codes.iter().copied())
}

/// Positions sorted by value as [`f32::total_cmp`] does, equal values by position.
pub(crate) fn sort_by_value(values: &[f32]) -> Vec<u32> {
    sort_by_word(values.iter().map(|v| {
        // total_cmp as an unsigned comparison: negatives reversed, positives above them.
        let bits = v.to_bits();
        bits ^ (((bits as i32) >> 31) as u32 | 1 << 31)
    }))
}

/// Code and position in one word make the order total, so an unstable sort is stable.
fn sort_by_word(codes: impl ExactSizeIterator<Item = u32>) -> Vec<u32> {
    assert!(u32::try_from(codes.len()).is_ok(), "{} codes", codes.len());
    let mut words: Vec<u64> = codes.zip(0u64..).map(|(code, at)| u64::from(code) << 32 | at).collect();
    words.sort_unstable();
    words.into_iter().map(|word| word as u32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn codes_as_the_stable_argsort(codes in prop::collection::vec(0u32..9, 0..70)) {
            let mut naive: Vec<u32> = (0..codes.len() as u32).collect();
            naive.sort_by_key(|&i| codes[i as usize]);
            prop_assert_eq!(sort_by_code(&codes), naive);
        }

        #[test]
        fn values_as_total_cmp(bits in prop::collection::vec(any::<u32>(), 0..70)) {
            let mut values: Vec<f32> = bits.into_iter().map(f32::from_bits).collect();
            values.extend([0.0, -0.0, f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0]);
            let mut naive: Vec<u32> = (0..values.len() as u32).collect();
            naive.sort_by(|&i, &j| values[i as usize].total_cmp(&values[j as usize]));
            prop_assert_eq!(sort_by_value(&values), naive);
        }
    }
}
