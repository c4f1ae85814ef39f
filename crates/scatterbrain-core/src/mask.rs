//! Which query may see which key.
//!
//! Query `i` of batch entry `b` stands at key position `i + L_b − n` (`L_b` its key length, `m` where none
//! is given): the last query sees the last key. For n = 3, m = 5, causal:
//!
//! ```text
//! 1 1 1 0 0
//! 1 1 1 1 0
//! 1 1 1 1 1
//! ```
//!
//! A causal flag, a length, a window and a boolean mask combine by "and". Each but the last leaves a row an
//! interval of keys, which is what makes them cheap.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Where query `i` stands among the keys, for windows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum WindowAlign {
    /// Position `i + L − n`: the last query at the last key.
    #[default]
    End,
    /// Position `i`, the rule of the authors' code.
    Start,
}

/// A sliding window: keys from `left` before the query's position to `right` after it, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Window {
    /// Keys before the position.
    pub left: usize,
    /// Keys after the position.
    pub right: usize,
    /// What the position is.
    #[serde(default)]
    pub align: WindowAlign,
}

impl Window {
    /// The interval of key positions of query `query_idx` among `length` keys.
    pub fn range(&self, query_idx: usize, n: usize, length: usize) -> Range<usize> {
        let position = match self.align {
            WindowAlign::End => query_idx as i128 + length as i128 - n as i128,
            WindowAlign::Start => query_idx as i128,
        };
        let clamp = |x: i128| x.clamp(0, length as i128) as usize;
        let start = clamp(position - self.left as i128);
        start..clamp(position + self.right as i128 + 1).max(start)
    }
}

/// An arbitrary mask over `[batch or 1, heads or 1, n, m]`; non-zero = may attend.
#[derive(Debug, Clone, Copy)]
pub struct MaskTensor<'a> {
    data: &'a [u8],
    shape: [usize; 4],
}

impl<'a> MaskTensor<'a> {
    /// A contiguous mask.
    ///
    /// # Errors
    /// Where the length is not the product of `shape`.
    pub fn new(data: &'a [u8], shape: [usize; 4]) -> Result<Self> {
        let expected = shape.iter().try_fold(1usize, |a, &b| a.checked_mul(b));
        if expected != Some(data.len()) {
            return Err(Error::invalid("mask", format!("the product of shape {shape:?} elements"), data.len()));
        }
        Ok(Self { data, shape })
    }

    fn head(&self, batch: usize, head: usize) -> &'a [u8] {
        let [b, h, n, m] = self.shape;
        let (b, h) = (if b == 1 { 0 } else { batch }, if h == 1 { 0 } else { head });
        let start = (b * self.shape[1] + h) * n * m;
        &self.data[start..start + n * m]
    }
}

/// The masks of one call. The default hides nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Mask<'a> {
    /// Keys after the query's position are hidden.
    pub causal: bool,
    /// Valid keys of each batch entry; the rest is padding.
    pub key_lengths: Option<&'a [usize]>,
    /// Keys outside the window are hidden.
    pub window: Option<Window>,
    /// An arbitrary boolean mask.
    pub allowed: Option<MaskTensor<'a>>,
}

impl<'a> Mask<'a> {
    /// A causal mask and nothing else.
    pub fn causal() -> Self {
        Mask { causal: true, ..Mask::default() }
    }

    /// Checks the masks against the shapes of a call.
    ///
    /// # Errors
    /// A number of lengths other than `batch`, a length beyond `m`, or a boolean mask of another shape.
    pub fn check(&self, batch: usize, heads: usize, n: usize, m: usize) -> Result<()> {
        if let Some(lengths) = self.key_lengths {
            if lengths.len() != batch {
                return Err(Error::invalid(
                    "key_lengths",
                    format!("{batch} lengths, one a batch entry"),
                    lengths.len(),
                ));
            }
            if let Some(l) = lengths.iter().find(|&&l| l > m) {
                return Err(Error::invalid("key_lengths", format!("lengths of at most {m}"), l));
            }
        }
        if let Some(mask) = &self.allowed {
            let [b, h, r, c] = mask.shape;
            if (b != 1 && b != batch) || (h != 1 && h != heads) || r != n || c != m {
                let or_one = |count: usize| if count == 1 { "1".into() } else { format!("{count} or 1") };
                let expected = format!("[{}, {}, {n}, {m}]", or_one(batch), or_one(heads));
                return Err(Error::invalid("mask", expected, format!("{:?}", mask.shape)));
            }
        }
        Ok(())
    }

    /// The mask of one head. Call [`Mask::check`] first.
    pub fn head(&self, batch: usize, head: usize, n: usize, m: usize) -> HeadMask<'a> {
        HeadMask {
            n,
            m,
            length: self.key_lengths.map_or(m, |l| l[batch]),
            causal: self.causal,
            window: self.window,
            allowed: self.allowed.map(|a| a.head(batch, head)),
        }
    }
}

/// The mask of one head: an interval of keys per query, and perhaps a boolean row.
#[derive(Debug, Clone, Copy)]
pub struct HeadMask<'a> {
    n: usize,
    m: usize,
    length: usize,
    causal: bool,
    window: Option<Window>,
    allowed: Option<&'a [u8]>,
}

impl<'a> HeadMask<'a> {
    /// Number of queries.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Number of keys, padding included.
    pub fn m(&self) -> usize {
        self.m
    }

    /// Number of valid keys.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Whether keys after the query's position are hidden.
    pub fn is_causal(&self) -> bool {
        self.causal
    }

    /// The window, where one hides keys.
    pub fn window(&self) -> Option<Window> {
        self.window
    }

    /// Whether a window hides keys.
    pub fn has_window(&self) -> bool {
        self.window.is_some()
    }

    /// Whether a boolean mask hides keys.
    pub fn has_boolean(&self) -> bool {
        self.allowed.is_some()
    }

    /// Whether every row sees exactly the valid keys.
    pub fn is_dense(&self) -> bool {
        !self.causal && self.window.is_none() && self.allowed.is_none()
    }

    /// The same mask without its boolean part: what all heads of a batch entry share.
    pub fn without_boolean(&self) -> Self {
        HeadMask { allowed: None, ..*self }
    }

    /// `i + L − n`, the position of a query among the keys; negative where n > L.
    pub fn position(&self, query_idx: usize) -> isize {
        query_idx as isize + self.length as isize - self.n as isize
    }

    /// The interval of keys that length, causality and window leave to a query.
    pub fn range(&self, query_idx: usize) -> Range<usize> {
        let mut range = match &self.window {
            Some(w) => w.range(query_idx, self.n, self.length),
            None => 0..self.length,
        };
        if self.causal {
            let seen = (self.position(query_idx) + 1).max(0) as usize;
            range.end = range.end.min(seen);
            range.start = range.start.min(range.end);
        }
        range
    }

    /// The boolean row of a query (length m), where there is a boolean mask.
    pub fn allowed_row(&self, query_idx: usize) -> Option<&'a [u8]> {
        self.allowed.map(|a| &a[query_idx * self.m..(query_idx + 1) * self.m])
    }

    /// Whether a query may see a key.
    pub fn sees(&self, query_idx: usize, key_idx: usize) -> bool {
        self.range(query_idx).contains(&key_idx) && self.allowed_row(query_idx).is_none_or(|a| a[key_idx] != 0)
    }

    /// How many keys a query sees.
    pub fn visible(&self, query_idx: usize) -> usize {
        let range = self.range(query_idx);
        match self.allowed_row(query_idx) {
            Some(row) => row[range].iter().filter(|&&a| a != 0).count(),
            None => range.len(),
        }
    }
}
