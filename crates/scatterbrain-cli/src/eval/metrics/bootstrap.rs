//! How sure a difference is.

use super::Item;
use crate::library::Seed;

/// Resamples of an interval.
const RESAMPLES: usize = 2000;
/// Share of the resamples inside.
const CONFIDENCE: f64 = 0.95;

/// Percentile interval of measure(method) − measure(exact), paired: a resample draws the same items of both, with
/// replacement. Nominally 95 %; with few items it covers less. `None` under two items, or where a measure is no number.
///
/// Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, §13.3.
pub(crate) fn difference(
    exact: &[Item],
    method: &[Item],
    measure: fn(&[&Item]) -> f64,
    seed: Seed,
) -> Option<[f64; 2]> {
    let count = exact.len();
    if count < 2 || count != method.len() {
        return None;
    }
    let mut rng = seed.stream(0);
    let mut differences: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let drawn: Vec<usize> = (0..count).map(|_| rng.below(count as u64) as usize).collect();
            let of = |items: &[Item]| measure(&drawn.iter().map(|&at| &items[at]).collect::<Vec<_>>());
            of(method) - of(exact)
        })
        .filter(|difference| difference.is_finite())
        .collect();
    if differences.len() < RESAMPLES / 2 {
        return None;
    }
    differences.sort_by(f64::total_cmp);
    let at = |part: f64| differences[(part * (differences.len() - 1) as f64).round() as usize];
    Some([at((1.0 - CONFIDENCE) / 2.0), at((1.0 + CONFIDENCE) / 2.0)])
}

#[cfg(test)]
mod tests {
    use super::super::mean;
    use super::*;

    fn first(items: &[&Item]) -> f64 {
        mean(items, 0)
    }

    #[test]
    fn the_interval_covers_as_often_as_it_says() {
        // Pairs whose difference is normal around 0.1. Of 200 intervals 190 should cover; 4 standard deviations of the
        // binomial are 12.3, and percentile intervals of 50 items cover a little less than they say.
        let mut rng = Seed(3).stream(0);
        let mut covered = 0;
        for round in 0..200 {
            let exact: Vec<Item> = (0..50).map(|_| vec![5.0 * rng.normal()]).collect();
            let method: Vec<Item> = exact.iter().map(|item| vec![item[0] + 0.1 + rng.normal()]).collect();
            let [low, high] = difference(&exact, &method, first, Seed(round)).expect("an interval");
            covered += usize::from(low <= 0.1 && 0.1 <= high);
        }
        assert!((175..=200).contains(&covered), "{covered}");
    }

    #[test]
    fn equal_results_differ_by_nothing() {
        let items: Vec<Item> = (0..9).map(|i| vec![f64::from(i)]).collect();
        assert_eq!(difference(&items, &items, first, Seed(0)), Some([0.0, 0.0]));
        assert_eq!(difference(&items[..1], &items[..1], first, Seed(0)), None);
        assert_eq!(difference(&items, &items, |_| f64::NAN, Seed(0)), None);
    }
}
