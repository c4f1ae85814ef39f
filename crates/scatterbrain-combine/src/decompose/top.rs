//! The largest entries of a row.

/// Indices of the at most `count` entries of largest magnitude above `threshold` (zeros never count), rising. Of equal
/// magnitudes the first are taken, so that the choice is the same everywhere.
pub(super) fn largest(row: &[f64], count: usize, threshold: f64) -> Vec<u32> {
    let mut indices: Vec<u32> = (0..row.len() as u32).filter(|&j| row[j as usize].abs() > threshold).collect();
    if count == 0 {
        indices.clear();
    } else if indices.len() > count {
        let magnitude = |j: u32| row[j as usize].abs();
        indices.select_nth_unstable_by(count - 1, |&a, &b| magnitude(b).total_cmp(&magnitude(a)).then(a.cmp(&b)));
        indices.truncate(count);
        indices.sort_unstable();
    }
    indices
}

#[cfg(test)]
mod tests {
    use super::largest;

    #[test]
    fn by_magnitude_and_then_by_place() {
        let row = [0.0, -3.0, 2.0, 2.0, 1.0, -2.0];
        assert_eq!(largest(&row, 3, 0.0), [1, 2, 3]);
        assert_eq!(largest(&row, 9, 0.0), [1, 2, 3, 4, 5]);
        assert_eq!(largest(&row, 9, 2.0), [1]);
        assert!(largest(&row, 0, 0.0).is_empty() && largest(&[0.0; 4], 2, 0.0).is_empty());
    }
}
