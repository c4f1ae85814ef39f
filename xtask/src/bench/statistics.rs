//! Medians and ratios.

/// The median; of an even number the mean of the two in the middle.
pub(super) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        length if length % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

/// How many times longer `a` takes than `b`: of the medians, and the median over the repeats of a/b, which a drift
/// of the machine's speed moves less.
pub(super) fn ratio(a: &[f64], b: &[f64]) -> Option<(f64, f64)> {
    let paired: Vec<f64> = a.iter().zip(b).map(|(a, b)| a / b).collect();
    Some((median(a)? / median(b)?, median(&paired)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[5.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 9.0]), Some(3.0));
    }

    #[test]
    fn ratios() {
        // The machine halves its speed after the first repeat: pairs do not notice.
        assert_eq!(ratio(&[3.0, 6.0, 6.0], &[1.0, 2.0, 2.0]), Some((3.0, 3.0)));
        assert_eq!(ratio(&[3.0, 6.0, 6.0], &[1.0, 1.0, 2.0]), Some((6.0, 3.0)));
        // An interrupted last repeat.
        assert_eq!(ratio(&[4.0, 4.0], &[2.0]), Some((2.0, 2.0)));
        assert_eq!(ratio(&[4.0], &[]), None);
    }
}
