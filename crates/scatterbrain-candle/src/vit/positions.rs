//! Maps at other sizes: positions by cubic, saliency by linear interpolation, pixel centres at halves.
//!
//! ```text
//! out[y, x] = Σ_ij rows[y, i] columns[x, j] map[i, j]
//! ```

use candle_core::{Device, Result, Tensor};

/// How an entry depends on its neighbours, by their distance.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kernel {
    Linear,
    /// Keys' cubic with a = −0.75, as PyTorch's `bicubic`.
    Cubic,
}

impl Kernel {
    fn reach(self) -> i64 {
        match self {
            Kernel::Linear => 1,
            Kernel::Cubic => 2,
        }
    }

    fn weight(self, distance: f64) -> f64 {
        const A: f64 = -0.75;
        let t = distance.abs();
        match self {
            Kernel::Linear => (1.0 - t).max(0.0),
            Kernel::Cubic if t <= 1.0 => ((A + 2.0) * t - (A + 3.0)) * t * t + 1.0,
            Kernel::Cubic if t < 2.0 => A * (((t - 5.0) * t + 8.0) * t - 4.0),
            Kernel::Cubic => 0.0,
        }
    }
}

/// The stored positions `[1, 1 + grid², c]` for a grid of rows × columns, `[1, 1 + rows · columns, c]`.
pub(super) fn for_grid(stored: &Tensor, grid: usize, rows: usize, columns: usize) -> Result<Tensor> {
    if (rows, columns) == (grid, grid) {
        return Ok(stored.clone());
    }
    let c = stored.dim(2)?;
    let map = stored.narrow(1, 1, grid * grid)?.reshape((1, grid, grid, c))?.permute((0, 3, 1, 2))?;
    let map = resize(&map, rows, columns, Kernel::Cubic)?;
    let map = map.permute((0, 2, 3, 1))?.reshape((1, rows * columns, c))?;
    Tensor::cat(&[&stored.narrow(1, 0, 1)?, &map], 1)
}

/// `[batch, c, h, w]` at another size.
pub(super) fn resize(map: &Tensor, rows: usize, columns: usize, kernel: Kernel) -> Result<Tensor> {
    let (_, _, height, width) = map.dims4()?;
    let vertical = weights(height, rows, kernel)?;
    let horizontal = weights(width, columns, kernel)?.t()?;
    vertical.broadcast_matmul(&map.contiguous()?)?.contiguous()?.broadcast_matmul(&horizontal)
}

/// `[to, from]`: what each entry takes from each; what lies beyond an end is the entry there.
fn weights(from: usize, to: usize, kernel: Kernel) -> Result<Tensor> {
    let mut table = vec![0f32; to * from];
    for out in 0..to {
        let centre = (out as f64 + 0.5) * from as f64 / to as f64 - 0.5;
        let first = centre.floor() as i64;
        for neighbour in first - kernel.reach() + 1..=first + kernel.reach() {
            let index = neighbour.clamp(0, from as i64 - 1) as usize;
            table[out * from + index] += kernel.weight(centre - neighbour as f64) as f32;
        }
    }
    Tensor::from_vec(table, (to, from), &Device::Cpu)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_stay_and_lines_are_kept_inside() -> Result<()> {
        for kernel in [Kernel::Linear, Kernel::Cubic] {
            for (from, to) in [(5, 5), (5, 12), (37, 16), (1, 3)] {
                let table = weights(from, to, kernel)?.to_vec2::<f32>()?;
                for (out, row) in table.iter().enumerate() {
                    assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6);
                    if from == to {
                        assert_eq!(row[out], 1.0);
                    }
                    let centre = (out as f32 + 0.5) * from as f32 / to as f32 - 0.5;
                    if centre >= 2.0 && centre <= from as f32 - 3.0 {
                        let line: f32 = row.iter().enumerate().map(|(i, w)| w * i as f32).sum();
                        // Keys' cubic reproduces lines for a = −1/2 alone; for −3/4 it is off by up to 0.06.
                        let off = if matches!(kernel, Kernel::Linear) { 1e-5 } else { 0.1 };
                        assert!((line - centre).abs() < off, "{kernel:?} {line} {centre}");
                    }
                }
            }
        }
        Ok(())
    }

    #[test]
    fn halves_between_two_neighbours() -> Result<()> {
        // Worked by hand: at distance 1/2 the cubic weighs 19/32, at 3/2 −3/32.
        let table = weights(8, 4, Kernel::Cubic)?.to_vec2::<f32>()?;
        assert_eq!(table[1][1..5], [-0.09375, 0.59375, 0.59375, -0.09375]);
        Ok(())
    }
}
