//! The soft split: overlapping patches as rows.

use candle_core::{Device, Result, Tensor};

/// Height and width of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grid {
    pub(super) height: usize,
    pub(super) width: usize,
}

/// Square patches of a map, every `stride` pixels, with zeros around it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unfold {
    pub(super) kernel: usize,
    pub(super) stride: usize,
    pub(super) padding: usize,
}

impl Unfold {
    /// How many patches there are.
    pub(super) fn grid(self, map: Grid) -> Grid {
        let patches = |size: usize| (size + 2 * self.padding - self.kernel) / self.stride + 1;
        Grid { height: patches(map.height), width: patches(map.width) }
    }

    /// `[batch, c, h, w]` to `[batch, patches, c · kernel²]`, columns in the order channel, row, column.
    ///
    /// Rows and columns are gathered one after the other, which has a gradient.
    pub(super) fn unfold(self, map: &Tensor) -> Result<Tensor> {
        let (batch, c, height, width) = map.dims4()?;
        let grid = self.grid(Grid { height, width });
        let (p, k) = (self.padding, self.kernel);
        map.pad_with_zeros(2, p, p)?
            .pad_with_zeros(3, p, p)?
            .index_select(&self.positions(grid.height, map.device())?, 2)?
            .index_select(&self.positions(grid.width, map.device())?, 3)?
            .reshape(&[batch, c, grid.height, k, grid.width, k])?
            .permute([0, 2, 4, 1, 3, 5])?
            .reshape((batch, grid.height * grid.width, c * k * k))
    }

    fn positions(self, patches: usize, device: &Device) -> Result<Tensor> {
        let of = |patch: usize| (0..self.kernel).map(move |i| (patch * self.stride + i) as u32);
        Tensor::from_vec((0..patches).flat_map(of).collect::<Vec<u32>>(), patches * self.kernel, device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_by_their_definition() -> Result<()> {
        for (unfold, c, h, w) in [
            (Unfold { kernel: 7, stride: 4, padding: 2 }, 2, 12, 17),
            (Unfold { kernel: 3, stride: 2, padding: 1 }, 3, 5, 4),
        ] {
            let Unfold { kernel, stride, padding } = unfold;
            let map: Vec<f32> = (0..2 * c * h * w).map(|i| i as f32 + 1.0).collect();
            let got = unfold.unfold(&Tensor::from_vec(map.clone(), (2, c, h, w), &Device::Cpu)?)?.to_vec3::<f32>()?;
            let grid = unfold.grid(Grid { height: h, width: w });
            for b in 0..2 {
                for y in 0..grid.height {
                    for x in 0..grid.width {
                        let row = &got[b][y * grid.width + x];
                        assert_eq!(row.len(), c * kernel * kernel);
                        for (i, value) in row.iter().enumerate() {
                            let (channel, ky, kx) = (i / (kernel * kernel), i / kernel % kernel, i % kernel);
                            let at = |start: usize, k: usize, size: usize| {
                                (start * stride + k).checked_sub(padding).filter(|&at| at < size)
                            };
                            let want = match (at(y, ky, h), at(x, kx, w)) {
                                (Some(y), Some(x)) => map[((b * c + channel) * h + y) * w + x],
                                _ => 0.0,
                            };
                            assert_eq!(*value, want);
                        }
                    }
                }
            }
        }
        Ok(())
    }
}
