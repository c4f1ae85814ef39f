//! Which query may see which key, asked pair by pair.

/// Whether query `i` of `n` may see key `j` of `m`, the first `length` of which are valid.
///
/// Its position is `i + length − n`. Causal: keys at positions up to that. A window `(left, right, align_start)`:
/// keys from `left` before the position to `right` after it, both included; with `align_start` the window's
/// position is `i` itself (causality keeps its own). All conditions combine by "and".
pub fn visible(
    n: usize,
    m: usize,
    length: usize,
    causal: bool,
    window: Option<(usize, usize, bool)>,
    i: usize,
    j: usize,
) -> bool {
    assert!(i < n && j < m && length <= m, "pair ({i}, {j}) of {n} x {m}, length {length}");
    let (i, j) = (i as i64, j as i64);
    let position = i + length as i64 - n as i64;
    let inside = window.is_none_or(|(left, right, align_start)| {
        let centre = if align_start { i } else { position };
        j >= centre - left as i64 && j <= centre + right as i64
    });
    j < length as i64 && (!causal || j <= position) && inside
}

/// [`visible`] for every pair, `n * m`.
pub fn visibility(n: usize, m: usize, length: usize, causal: bool, window: Option<(usize, usize, bool)>) -> Vec<bool> {
    (0..n * m).map(|pair| visible(n, m, length, causal, window, pair / m, pair % m)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(n: usize, m: usize, length: usize, causal: bool, window: Option<(usize, usize, bool)>) -> Vec<String> {
        let bits = visibility(n, m, length, causal, window);
        bits.chunks(m).map(|row| row.iter().map(|&b| if b { '1' } else { '0' }).collect()).collect()
    }

    #[test]
    fn the_last_query_sees_the_last_key() {
        assert_eq!(drawn(3, 5, 5, true, None), ["11100", "11110", "11111"]);
        assert_eq!(drawn(3, 5, 4, true, None), ["11000", "11100", "11110"]);
        assert_eq!(drawn(3, 1, 1, true, None), ["0", "0", "1"]);
    }

    #[test]
    fn windows() {
        assert_eq!(drawn(3, 5, 5, false, Some((1, 1, false))), ["01110", "00111", "00011"]);
        assert_eq!(drawn(3, 5, 5, false, Some((1, 1, true))), ["11000", "11100", "01110"]);
        assert_eq!(drawn(3, 5, 5, true, Some((0, 9, false))), ["00100", "00010", "00001"]);
    }
}
