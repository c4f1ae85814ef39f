//! An order of binary codes in which neighbours differ in one bit.

/// The place of a code in the reflected Gray sequence, in which each code differs from the one before in a single bit:
///
/// ```text
/// code = rank XOR ⌊rank/2⌋        rank = code XOR ⌊code/2⌋ XOR ⌊code/4⌋ XOR …
/// ```
///
/// Rows sorted by the rank of their [`SignRandomProjection`](crate::SignRandomProjection) codes have near rows beside them
/// even across the ends of buckets: KDEformer's and HyperAttention's "sortLSH" (Zandieh et al. 2023, arXiv 2302.02451; Han
/// et al. 2023, arXiv 2310.05869). Their published code maps a code to its Gray code, the inverse of what is meant here;
/// buckets that it puts side by side may differ in more than a bit.
///
/// ```
/// use scatterbrain_hash::hamming_rank;
/// assert_eq!([0b00, 0b01, 0b11, 0b10].map(hamming_rank), [0, 1, 2, 3]);
/// ```
pub fn hamming_rank(code: u32) -> u32 {
    let mut rank = code;
    for shift in [1, 2, 4, 8, 16] {
        rank ^= rank >> shift;
    }
    rank
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_differ_in_one_bit() {
        let mut codes = vec![u32::MAX; 1 << 10];
        (0..1 << 10).for_each(|code: u32| codes[hamming_rank(code) as usize] = code);
        assert!(codes.windows(2).all(|w| (w[0] ^ w[1]).count_ones() == 1));
        assert_eq!(hamming_rank(1 << 31), u32::MAX);
    }
}
