//! The saliency head: three upconvolutions, one map, brought to the size of the image.

use super::positions::{Kernel, resize};
use candle_core::{Module, ModuleT, Result, Tensor};
use candle_nn::{
    BatchNorm, BatchNormConfig, Conv2d, ConvTranspose2d, ConvTranspose2dConfig, VarBuilder, batch_norm, conv2d,
};

#[derive(Debug, Clone)]
pub(super) struct SaliencyHead {
    stages: Vec<(ConvTranspose2d, BatchNorm)>,
    last: Conv2d,
}

impl SaliencyHead {
    pub(super) fn load(columns: usize, channels: [usize; 3], names: &VarBuilder<'_>) -> Result<SaliencyHead> {
        // Each doubles height and width: (n − 1)·2 − 2·1 + 4 = 2n.
        let doubling = ConvTranspose2dConfig { padding: 1, stride: 2, ..Default::default() };
        let mut stages = Vec::new();
        let mut from = columns;
        for (i, to) in (1..).zip(channels) {
            let up = names.pp(format!("upconv{i}"));
            let up = ConvTranspose2d::new(up.get((from, to, 4, 4), "weight")?, Some(up.get(to, "bias")?), doubling);
            stages.push((up, batch_norm(to, BatchNormConfig::default(), names.pp(format!("bn{i}")))?));
            from = to;
        }
        Ok(SaliencyHead { stages, last: conv2d(from, 1, 1, Default::default(), names.pp("final_conv"))? })
    }

    pub(super) fn forward(&self, map: &Tensor, height: usize, width: usize) -> Result<Tensor> {
        let mut map = map.clone();
        for (up, norm) in &self.stages {
            map = norm.forward_t(&up.forward(&map)?, false)?.relu()?;
        }
        candle_nn::ops::sigmoid(&resize(&self.last.forward(&map)?, height, width, Kernel::Linear)?)
    }
}
