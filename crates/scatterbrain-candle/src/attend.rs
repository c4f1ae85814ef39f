//! How a model asks for attention: models know where they stand, and nothing of how it is computed there.

use crate::Spent;
use candle_core::{Result, Tensor};
use std::fmt;
use std::str::FromStr;

/// A stack of layers of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stack {
    /// Self-attention of an encoder.
    Encoder,
    /// Self-attention of a decoder.
    Decoder,
    /// A decoder's attention to the output of an encoder.
    Cross,
}

/// One attention of a model; its text (`encoder.3`) names the layer of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Site {
    /// The stack.
    pub stack: Stack,
    /// The layer in it, from 0.
    pub layer: usize,
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stack = match self.stack {
            Stack::Encoder => "encoder",
            Stack::Decoder => "decoder",
            Stack::Cross => "cross",
        };
        write!(f, "{stack}.{}", self.layer)
    }
}

impl FromStr for Site {
    type Err = scatterbrain_attention::Error;

    /// The way back from its text.
    fn from_str(name: &str) -> std::result::Result<Self, Self::Err> {
        let invalid = || scatterbrain_attention::Error::invalid("site", "encoder.N, decoder.N or cross.N", name);
        let (stack, layer) = name.split_once('.').ok_or_else(invalid)?;
        let stack = match stack {
            "encoder" => Stack::Encoder,
            "decoder" => Stack::Decoder,
            "cross" => Stack::Cross,
            _ => return Err(invalid()),
        };
        let site = Site { stack, layer: layer.parse().map_err(|_| invalid())? };
        // One name for one site: "encoder.03" is none.
        if site.to_string() == name { Ok(site) } else { Err(invalid()) }
    }
}

/// What a model hands over at a site: query, key and value after projection and rotation.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// `[batch, heads, n, d]`.
    pub query: &'a Tensor,
    /// `[batch, kv_heads, m, d]`.
    pub key: &'a Tensor,
    /// `[batch, kv_heads, m, d_v]`.
    pub value: &'a Tensor,
    /// A logit is `scale * q·k`.
    pub scale: f32,
    /// Whether a query sees the keys up to its own position alone; the last query stands at the last key.
    pub causal: bool,
    /// Valid keys of each batch entry; all where none are given.
    pub key_lengths: Option<&'a [usize]>,
}

/// Something that computes attention for a model: one method everywhere, a plan, a recorder of inputs.
pub trait Attend: Send + Sync {
    /// Attention at one site, `[batch, heads, n, d_v]`.
    ///
    /// # Errors
    /// Shapes, types or devices that cannot be taken.
    fn attend(&self, site: Site, inputs: &Inputs<'_>) -> Result<Tensor>;

    /// The same and what it took, where that is known. Who wraps another attention must hand its report on.
    ///
    /// # Errors
    /// As [`Attend::attend`].
    fn attend_reported(&self, site: Site, inputs: &Inputs<'_>) -> Result<(Tensor, Option<Spent>)> {
        Ok((self.attend(site, inputs)?, None))
    }
}
