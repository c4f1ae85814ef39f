//! Photos by a T2T-ViT of its authors, the paper's model, its two stages swapped.

use super::options::ModelOptions;
use super::t2t::{T2tModel, top_one};
use super::task::{Measure, Measured, Part, Task};
use anyhow::{Context, Result, ensure};
use scatterbrain_candle::pictures::{Fit, Labelled, class_folders, read};
use scatterbrain_candle::{Attend, Site, Stack};

/// Stages before the ViT, which the paper swaps.
const STAGES: usize = 2;

/// Photos with their classes.
pub(crate) struct ImageNet {
    t2t: T2tModel,
    photos: Vec<Labelled>,
}

impl ImageNet {
    /// The checkpoint, and a folder with a folder a class. A photo of each class comes in turn, so that the first few are
    /// of many classes.
    ///
    /// # Errors
    /// Files that are missing or not what they should be; not as many folders as the model has classes.
    pub(crate) fn load(options: &ModelOptions) -> Result<Self> {
        let folder = options.data.as_ref().context("--data: expected a folder with a folder of photos a class")?;
        let t2t = T2tModel::of_authors(options)?;
        let mut photos = class_folders(folder)?;
        let classes = t2t.model.config().classes;
        let found = photos.iter().map(|photo| photo.class + 1).max().unwrap_or(0);
        ensure!(found == classes, "{}: expected {classes} folders, one a class, got {found}", folder.display());
        let mut seen = vec![0usize; classes];
        photos.sort_by_cached_key(|photo| {
            seen[photo.class] += 1;
            (seen[photo.class], photo.class)
        });
        Ok(Self { t2t, photos })
    }
}

impl Task for ImageNet {
    fn inputs(&self, part: Part) -> usize {
        if part == Part::Test { self.photos.len() } else { 0 }
    }

    fn run(&self, _: Part, input: usize, attend: &dyn Attend, exact: Option<&[f32]>) -> Result<Measured> {
        let (photo, config) = (&self.photos[input], self.t2t.model.config());
        let image = read(&photo.path, config.image_size, Fit::Crop)?.unsqueeze(0)?;
        let output: Vec<f32> = self.t2t.model.forward(&image, attend)?.flatten_all()?.to_vec1()?;
        Ok(Measured { items: vec![top_one(&output, photo.class, exact)], output, length: config.token_counts()[0] })
    }

    fn measures(&self) -> &'static [Measure] {
        super::t2t::MEASURES
    }

    fn stands_at(&self) -> fn(Site) -> bool {
        |site| site.stack == Stack::Encoder && site.layer < STAGES
    }

    fn describe(&self) -> String {
        "T2T-ViT on photos in a folder a class, both stages swapped".into()
    }

    fn share(&self) -> f64 {
        0.05
    }
}
