//! Random directions ω and how rows are projected on them.

use scatterbrain_core::kernel::{PANEL, affine_lanes, affine_rows, pack, product};
use scatterbrain_core::tile::Keys;
use scatterbrain_core::{Error, Level, Matrix, Result, Rng, Seed};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Rows that are projected on one panel of directions before the next panel: they stay in the first cache.
const BLOCK_ROWS: usize = 64;

/// How the rows of a [`Projection`] depend on each other. Each row alone is N(0, I) in every sampled kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ProjectionKind {
    /// Independent rows (Rahimi and Recht 2007).
    Gaussian,
    /// Orthogonal within blocks of `head_dim` rows, independent χ norms (Yu et al. 2016; Choromanski et al.
    /// 2021, "Rethinking attention with Performers"). Lowers the variance of positive and hyperbolic
    /// features.
    Orthogonal,
    /// Within a block of `head_dim` rows the directions point to the vertices of a regular simplex,
    /// independent χ norms (Reid et al. 2023, "Simplex random features").
    Simplex,
    /// Numbers that the caller brought: nothing is promised about them.
    Given,
}

/// `rows` directions ω_l of dimension `head_dim`, row-major.
///
/// ```
/// use scatterbrain_core::Seed;
/// use scatterbrain_features::{Projection, ProjectionKind};
/// let projection = Projection::sample(ProjectionKind::Orthogonal, 6, 4, Seed(1))?;
/// let matrix = projection.matrix();
/// let dot: f32 = matrix.row(0).iter().zip(matrix.row(3)).map(|(a, b)| a * b).sum();
/// assert!(dot.abs() < 1e-5);
/// # Ok::<(), scatterbrain_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Parts", into = "Parts")]
pub struct Projection {
    kind: ProjectionKind,
    rows: usize,
    head_dim: usize,
    data: Vec<f32>,
    /// The same numbers, packed as `[panel][column][PANEL]`; missing rows are zero.
    panels: Vec<f32>,
}

impl Projection {
    /// Draws `n_rows` directions; the first rows of a longer draw with the same seed are the same.
    ///
    /// Gaussian: ω_l ~ N(0, I), independent.
    /// Orthogonal: a block of `head_dim` rows is diag(χ)·Q·diag(sign R_ii) with G = QR for a Gaussian G.
    /// Without the signs Q follows the QR routine's convention and the features are biased (Mezzadri 2007).
    /// Simplex: the rows q_i of that orthogonal block become χ_i √(d/(d − 1)) (q_i − q̄), q̄ their mean:
    /// a regular simplex in a random position, every direction alone uniform on the sphere.
    ///
    /// Cost: O(n_rows·d), and O(n_rows·d²) for the coupled kinds.
    ///
    /// # Errors
    /// `n_rows` or `head_dim` of 0 or too large to index, a simplex in one dimension, and
    /// [`ProjectionKind::Given`], which is not a distribution.
    ///
    /// ```
    /// use scatterbrain_core::Seed;
    /// use scatterbrain_features::{Projection, ProjectionKind};
    /// let projection = Projection::sample(ProjectionKind::Gaussian, 8, 64, Seed(1))?;
    /// assert_eq!((projection.rows(), projection.head_dim()), (8, 64));
    /// # Ok::<(), scatterbrain_core::Error>(())
    /// ```
    pub fn sample(kind: ProjectionKind, n_rows: usize, head_dim: usize, seed: Seed) -> Result<Self> {
        check_shape(n_rows, head_dim)?;
        let mut directions = seed.stream(0);
        let mut norms = seed.stream(1);
        let data = match kind {
            ProjectionKind::Gaussian => directions.normals(n_rows * head_dim),
            ProjectionKind::Orthogonal => {
                coupled(n_rows, head_dim, &mut norms, || orthogonal_block(head_dim, &mut directions))
            }
            ProjectionKind::Simplex if head_dim == 1 => {
                return Err(Error::invalid("head_dim", "at least 2 for a simplex", head_dim));
            }
            ProjectionKind::Simplex => {
                coupled(n_rows, head_dim, &mut norms, || simplex_block(orthogonal_block(head_dim, &mut directions)))
            }
            ProjectionKind::Given => {
                return Err(Error::invalid("kind", "Gaussian, Orthogonal or Simplex", "Given; see from_parts"));
            }
        };
        Self::checked(kind, n_rows, head_dim, data)
    }

    /// Directions that were stored elsewhere, row-major `[rows, head_dim]`; their kind is
    /// [`ProjectionKind::Given`].
    ///
    /// # Errors
    /// A size of 0, a length other than `rows * head_dim`, or a number that is not finite.
    ///
    /// ```
    /// use scatterbrain_features::Projection;
    /// let projection = Projection::from_parts(vec![1.0, 0.0, 0.0, -1.0], 2, 2)?;
    /// assert_eq!(projection.matrix().row(1), [0.0, -1.0]);
    /// assert!(Projection::from_parts(vec![f32::NAN, 0.0], 1, 2).is_err());
    /// # Ok::<(), scatterbrain_core::Error>(())
    /// ```
    pub fn from_parts(data: Vec<f32>, rows: usize, head_dim: usize) -> Result<Self> {
        Self::checked(ProjectionKind::Given, rows, head_dim, data)
    }

    fn checked(kind: ProjectionKind, rows: usize, head_dim: usize, data: Vec<f32>) -> Result<Self> {
        check_shape(rows, head_dim)?;
        let matrix = Matrix::new("projection", &data, rows, head_dim)?;
        if let Some(x) = data.iter().find(|x| !x.is_finite()) {
            return Err(Error::invalid("projection", "finite numbers", x));
        }
        let mut panels = vec![0.0; rows.div_ceil(PANEL) * PANEL * head_dim];
        for (p, panel) in panels.chunks_exact_mut(PANEL * head_dim).enumerate() {
            let listed: Vec<u32> = (p * PANEL..rows.min((p + 1) * PANEL)).map(|r| r as u32).collect();
            pack(Level::detect(), matrix, &listed, 1.0, panel);
        }
        Ok(Self { kind, rows, head_dim, data, panels })
    }

    /// How the rows depend on each other.
    pub fn kind(&self) -> ProjectionKind {
        self.kind
    }

    /// Number of directions.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Dimension of a direction.
    pub fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// The directions, `[rows, head_dim]`.
    pub fn matrix(&self) -> Matrix<'_> {
        Matrix::new("projection", &self.data, self.rows, self.head_dim).expect("checked when it was made")
    }

    /// Calls `f(i, first, dots)` with `dots[t] = ω_{first + t} · x_i` for every row x_i and every panel of at
    /// most [`PANEL`] directions. The panel lies along the vector lanes, so that a row's products come out
    /// contiguous. Each product is one chain of multiply-adds in column order, whatever rows surround it.
    ///
    /// # Panics
    /// If `x` has not `head_dim` columns.
    pub(crate) fn project(&self, level: Level, x: Matrix<'_>, mut f: impl FnMut(usize, usize, &[f32])) {
        self.project_panels(level, x, |rows, directions, products| {
            for (i, dots) in rows.zip(products.chunks_exact(PANEL)) {
                f(i, directions.start, &dots[..directions.len()]);
            }
        });
    }

    /// [`Projection::project`] with `f(rows, directions, products)` for many rows at once, `products` `[rows][PANEL]`.
    pub(crate) fn project_panels(
        &self,
        level: Level,
        x: Matrix<'_>,
        mut f: impl FnMut(Range<usize>, Range<usize>, &[f32]),
    ) {
        let mut products = [0.0; BLOCK_ROWS * PANEL];
        for start in (0..x.rows()).step_by(BLOCK_ROWS) {
            let rows = start..x.rows().min(start + BLOCK_ROWS);
            let products = &mut products[..rows.len() * PANEL];
            for (p, panel) in self.panels.chunks_exact(PANEL * self.head_dim).enumerate() {
                product(level, panel, x, &Keys::Range(rows.clone()), products);
                f(rows.clone(), p * PANEL..self.rows.min((p + 1) * PANEL), products);
            }
        }
    }

    /// Writes `sign · factor · ω_l·x_i + offset_i` to `out[i][first + l]` for every row and, in turn, every
    /// `(sign, first)` of `places`; rows of `out` are `width` long.
    pub(crate) fn affine(
        &self,
        (level, x): (Level, Matrix<'_>),
        factor: f32,
        offset: &[f32],
        out: &mut [f32],
        width: usize,
        places: &[(f32, usize)],
    ) {
        self.project_panels(level, x, |rows, directions, products| {
            let out = &mut out[rows.start * width..rows.end * width];
            for (sign, first) in places {
                let place = (width, first + directions.start, directions.len());
                affine_rows(level, products, (sign * factor, &offset[rows.clone()]), out, place);
            }
        });
    }

    /// [`Projection::affine`] with rows in lanes, by the same arithmetic: `[width][PANEL]` for every [`PANEL`] rows.
    pub(crate) fn affine_panels(
        &self,
        (level, x): (Level, Matrix<'_>),
        factor: f32,
        offset: &[f32],
        out: &mut Vec<f32>,
        width: usize,
        places: &[(f32, usize)],
    ) {
        let size = self.rows * PANEL;
        let (mut packed, mut dots) = (vec![0.0; self.head_dim * PANEL], vec![0.0; size]);
        out.resize(x.rows().div_ceil(PANEL) * width * PANEL, 0.0);
        for (start, out) in (0..x.rows()).step_by(PANEL).zip(out.chunks_exact_mut(width * PANEL)) {
            let rows = start..x.rows().min(start + PANEL);
            let mut lanes = [0.0; PANEL];
            lanes[..rows.len()].copy_from_slice(&offset[rows.clone()]);
            let rows: Vec<u32> = rows.map(|r| r as u32).collect();
            pack(level, x, &rows, 1.0, &mut packed);
            product(level, &packed, self.matrix(), &Keys::Range(0..self.rows), &mut dots);
            for (sign, first) in places {
                affine_lanes(level, &dots, (sign * factor, &lanes), &mut out[first * PANEL..][..size]);
            }
        }
    }
}

/// What is stored of a projection.
#[derive(Serialize, Deserialize)]
struct Parts {
    kind: ProjectionKind,
    rows: usize,
    head_dim: usize,
    data: Vec<f32>,
}

impl TryFrom<Parts> for Projection {
    type Error = Error;

    fn try_from(parts: Parts) -> Result<Self> {
        Self::checked(parts.kind, parts.rows, parts.head_dim, parts.data)
    }
}

impl From<Projection> for Parts {
    fn from(p: Projection) -> Self {
        Self { kind: p.kind, rows: p.rows, head_dim: p.head_dim, data: p.data }
    }
}

fn check_shape(rows: usize, head_dim: usize) -> Result<()> {
    for (argument, size) in [("n_rows", rows), ("head_dim", head_dim)] {
        if size == 0 || size > u32::MAX as usize {
            return Err(Error::invalid(argument, "1 to 2^32 - 1", size));
        }
    }
    // A panel more, in bytes, has to be addressable too.
    match rows.checked_add(PANEL).and_then(|r| r.checked_mul(head_dim)).and_then(|e| e.checked_mul(8)) {
        Some(bytes) if bytes <= isize::MAX as usize => Ok(()),
        _ => Err(Error::invalid("n_rows", "a matrix that fits into memory", format!("{rows} x {head_dim}"))),
    }
}

/// `rows` directions from blocks of `head_dim` unit rows each, every row with a norm of its own from χ(d).
fn coupled(rows: usize, head_dim: usize, norms: &mut Rng, mut block: impl FnMut() -> Vec<f64>) -> Vec<f32> {
    let mut data = Vec::with_capacity(rows * head_dim);
    while data.len() < rows * head_dim {
        for direction in block().chunks_exact(head_dim) {
            let norm = norms.chi(head_dim);
            data.extend(direction.iter().map(|x| (x * norm) as f32));
        }
    }
    data.truncate(rows * head_dim);
    data
}

/// A Haar-distributed orthogonal matrix, row-major: Q·diag(sign R_ii) of a Gaussian matrix.
fn orthogonal_block(d: usize, rng: &mut Rng) -> Vec<f64> {
    let qr = faer::Mat::<f64>::from_fn(d, d, |_, _| rng.normal()).qr();
    let (q, r) = (qr.compute_Q(), qr.R());
    let entry = |i: usize, j: usize| if r[(j, j)] < 0.0 { -q[(i, j)] } else { q[(i, j)] };
    (0..d * d).map(|e| entry(e / d, e % d)).collect()
}

/// Turns orthonormal rows into the vertices of a regular simplex around 0, all of norm 1.
fn simplex_block(mut rows: Vec<f64>) -> Vec<f64> {
    let d = rows.len().isqrt();
    let scale = (d as f64 / (d as f64 - 1.0)).sqrt();
    for column in 0..d {
        let mean = rows[column..].iter().step_by(d).sum::<f64>() / d as f64;
        rows[column..].iter_mut().step_by(d).for_each(|x| *x = (*x - mean) * scale);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dot(a: &[f32], b: &[f32]) -> f64 {
        a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
    }

    #[test]
    fn blocks_are_orthogonal() {
        for (rows, d) in [(1, 1), (7, 4), (130, 64), (5, 59)] {
            let p = Projection::sample(ProjectionKind::Orthogonal, rows, d, Seed(3)).unwrap();
            let m = p.matrix();
            for i in 0..rows {
                for j in (i / d * d)..i {
                    let cosine = dot(m.row(i), m.row(j)) / (dot(m.row(i), m.row(i)) * dot(m.row(j), m.row(j))).sqrt();
                    assert!(cosine.abs() < 1e-5, "rows {i} and {j} of d = {d}: {cosine}");
                }
            }
        }
    }

    #[test]
    fn simplex_angles() {
        for d in [2, 5, 64] {
            let p = Projection::sample(ProjectionKind::Simplex, d, d, Seed(3)).unwrap();
            let m = p.matrix();
            for i in 0..d {
                for j in 0..i {
                    let cosine = dot(m.row(i), m.row(j)) / (dot(m.row(i), m.row(i)) * dot(m.row(j), m.row(j))).sqrt();
                    assert!((cosine + 1.0 / (d as f64 - 1.0)).abs() < 1e-5, "rows {i} and {j} of d = {d}: {cosine}");
                }
            }
        }
    }

    /// Mean and covariance of a single row are 0 and I: standard errors 1/√N, √2/√N at most; 4.5 of them.
    #[test]
    fn every_row_is_standard_normal() {
        const TRIALS: usize = 20_000;
        let d = 3;
        for kind in [ProjectionKind::Gaussian, ProjectionKind::Orthogonal, ProjectionKind::Simplex] {
            let (mut mean, mut square) = ([0.0; 3], [[0.0; 3]; 3]);
            for t in 0..TRIALS {
                let p = Projection::sample(kind, 2, d, Seed(t as u64)).unwrap();
                let row = p.matrix().row(1);
                for i in 0..d {
                    mean[i] += f64::from(row[i]);
                    for j in 0..d {
                        square[i][j] += f64::from(row[i] * row[j]);
                    }
                }
            }
            let n = TRIALS as f64;
            for i in 0..d {
                assert!((mean[i] / n).abs() < 4.5 / n.sqrt(), "{kind:?}");
                for j in 0..d {
                    let expected = f64::from(u8::from(i == j));
                    assert!((square[i][j] / n - expected).abs() < 4.5 * (2.0 / n).sqrt(), "{kind:?}");
                }
            }
        }
    }

    #[test]
    fn longer_draws_begin_alike() {
        for kind in [ProjectionKind::Gaussian, ProjectionKind::Orthogonal, ProjectionKind::Simplex] {
            let long = Projection::sample(kind, 11, 4, Seed(5)).unwrap();
            let short = Projection::sample(kind, 3, 4, Seed(5)).unwrap();
            assert_eq!(short.data, long.data[..12], "{kind:?}");
        }
    }

    #[test]
    fn projects_every_row_on_every_direction() {
        let p = Projection::sample(ProjectionKind::Gaussian, 37, 5, Seed(1)).unwrap();
        let data = Seed(2).stream(0).normals(131 * 5);
        let x = Matrix::new("key", &data, 131, 5).unwrap();
        let mut seen = vec![f32::NAN; 131 * 37];
        p.project(Level::detect(), x, |i, first, dots| {
            seen[i * 37 + first..][..dots.len()].copy_from_slice(dots);
        });
        for i in 0..131 {
            for l in 0..37 {
                let expected = dot(x.row(i), p.matrix().row(l));
                assert!((f64::from(seen[i * 37 + l]) - expected).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn refuses() {
        use ProjectionKind::*;
        for (kind, rows, d) in [(Gaussian, 0, 4), (Gaussian, 4, 0), (Simplex, 4, 1), (Given, 4, 4)] {
            assert!(Projection::sample(kind, rows, d, Seed(0)).is_err(), "{kind:?} {rows} {d}");
        }
        assert!(Projection::sample(Gaussian, u32::MAX as usize, u32::MAX as usize, Seed(0)).is_err());
        assert!(Projection::from_parts(vec![0.0; 5], 2, 3).is_err());
        let json = r#"{"kind": "Gaussian", "rows": 2, "head_dim": 3, "data": [1.0, 2.0]}"#;
        assert!(serde_json::from_str::<Projection>(json).is_err());
    }

    #[test]
    fn survives_storage() {
        let p = Projection::sample(ProjectionKind::Orthogonal, 5, 4, Seed(1)).unwrap();
        let json = serde_json::to_string(&p).unwrap();
        assert_eq!(serde_json::from_str::<Projection>(&json).unwrap(), p);
    }
}
