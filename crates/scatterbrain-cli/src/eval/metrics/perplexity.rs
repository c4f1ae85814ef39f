//! Perplexity.

use super::Item;

/// Tokens of an item: a document is one sequence, so that the bootstrap needs parts of it.
const BLOCK: usize = 128;

/// Items `[negative log-likelihood, tokens]` of consecutive tokens.
pub(crate) fn items(losses: &[f64]) -> Vec<Item> {
    losses.chunks(BLOCK).map(|block| vec![block.iter().sum(), block.len() as f64]).collect()
}

/// e to the mean negative log-likelihood of a token.
pub(crate) fn perplexity(items: &[&Item]) -> f64 {
    let sum = |column: usize| items.iter().map(|item| item[column]).sum::<f64>();
    (sum(0) / sum(1)).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_even_odds() {
        let items = items(&vec![2f64.ln(); 300]);
        assert_eq!(items.iter().map(|item| item[1]).collect::<Vec<_>>(), [128.0, 128.0, 44.0]);
        assert!((perplexity(&items.iter().collect::<Vec<_>>()) - 2.0).abs() < 1e-12);
    }
}
