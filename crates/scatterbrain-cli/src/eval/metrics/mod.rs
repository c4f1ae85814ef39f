//! Figures of merit, one a file. None knows a model.

pub(crate) mod bootstrap;
pub(crate) mod cosine;
pub(crate) mod logistic;
pub(crate) mod perplexity;
pub(crate) mod spearman;
pub(crate) mod word_error;

/// What a measure is computed from: a few numbers of an input, or of a part of one.
pub(crate) type Item = Vec<f64>;

/// Mean of a column of the items; NaN of none.
pub(crate) fn mean(items: &[&Item], column: usize) -> f64 {
    items.iter().map(|item| item[column]).sum::<f64>() / items.len() as f64
}
