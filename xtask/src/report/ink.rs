//! Colours of lines, points and text. Each is one number in every drawing, so that the page's style sheet can give it
//! another one in the dark (`templates/report.html`).

use plotters::style::RGBColor;
use scatterbrain_attention::Preset;

/// Text, axes and frames.
pub(super) const INK: RGBColor = RGBColor(0x1A, 0x1A, 0x1A);
/// Grid lines.
pub(super) const GRID: RGBColor = RGBColor(0xDD, 0xDD, 0xDE);
/// Rules and notes in a drawing.
pub(super) const NOTE: RGBColor = RGBColor(0x66, 0x66, 0x67);
/// The ground, which the page takes away.
pub(super) const PAPER: RGBColor = RGBColor(0xFF, 0xFF, 0xFF);

/// Fields of a heat map: clearly better, better, not better. Text on them is [`INK`].
pub(super) const BEST: RGBColor = RGBColor(0x8F, 0xD1, 0xAE);
pub(super) const BETTER: RGBColor = RGBColor(0xCF, 0xE3, 0xF5);
pub(super) const WORSE: RGBColor = RGBColor(0xF3, 0xD2, 0xC8);

pub(super) const BLUE: RGBColor = RGBColor(0x1F, 0x6F, 0xB2);
pub(super) const ORANGE: RGBColor = RGBColor(0xE0, 0x8A, 0x00);
pub(super) const GREEN: RGBColor = RGBColor(0x0B, 0x8A, 0x5F);
pub(super) const OLIVE: RGBColor = RGBColor(0x7D, 0x8A, 0x12);
pub(super) const PINK: RGBColor = RGBColor(0xC2, 0x52, 0x9B);
pub(super) const VIOLET: RGBColor = RGBColor(0x7A, 0x5B, 0xC0);
pub(super) const BROWN: RGBColor = RGBColor(0x9C, 0x6A, 0x2E);
pub(super) const VERMILION: RGBColor = RGBColor(0xE4, 0x5A, 0x1E);
pub(super) const RED: RGBColor = RGBColor(0xC4, 0x12, 0x30);
pub(super) const TEAL: RGBColor = RGBColor(0x12, 0x8A, 0x99);
pub(super) const NAVY: RGBColor = RGBColor(0x2B, 0x3F, 0xA3);
pub(super) const LIME: RGBColor = RGBColor(0x4F, 0x9A, 0x22);
pub(super) const PLUM: RGBColor = RGBColor(0x8E, 0x1D, 0x7A);
pub(super) const AZURE: RGBColor = RGBColor(0x3D, 0x8F, 0xD6);
pub(super) const SLATE: RGBColor = RGBColor(0x4C, 0x66, 0x7A);
pub(super) const GOLD: RGBColor = RGBColor(0xB0, 0x8A, 0x00);
pub(super) const RUST: RGBColor = RGBColor(0x9C, 0x4A, 0x2F);
pub(super) const MOSS: RGBColor = RGBColor(0x6B, 0x7A, 0x2E);
pub(super) const CORAL: RGBColor = RGBColor(0xD9, 0x6B, 0x62);
pub(super) const FERN: RGBColor = RGBColor(0x5C, 0x6E, 0x2B);
pub(super) const ROSE: RGBColor = RGBColor(0xB5, 0x3A, 0x64);
pub(super) const STEEL: RGBColor = RGBColor(0x3E, 0x7C, 0x8F);
pub(super) const GREY: RGBColor = RGBColor(0x8A, 0x8A, 0x8B);

/// Colours for things without one of their own, in this order.
pub(super) const CYCLE: [RGBColor; 8] = [BLUE, ORANGE, GREEN, PINK, VIOLET, BROWN, RED, OLIVE];

/// A method has the same colour in every figure.
pub(super) fn method(preset: Preset) -> RGBColor {
    match preset {
        Preset::Exact => INK,
        Preset::Uniform => GREY,
        Preset::Local => BLUE,
        Preset::TopK => ORANGE,
        Preset::Smyrf => GREEN,
        Preset::Reformer => OLIVE,
        Preset::Performer => PINK,
        Preset::Linear => VIOLET,
        Preset::Average => BROWN,
        Preset::ScatterbrainLocal => VERMILION,
        Preset::ScatterbrainSmyrf => RED,
        Preset::Centroids => TEAL,
        Preset::ScatterbrainCentroid => NAVY,
        Preset::QuantisedTopK => LIME,
        Preset::ScatterbrainQuantised => PLUM,
        Preset::InvertedFile => STEEL,
        Preset::Clustered => AZURE,
        Preset::Hyper => SLATE,
        Preset::Kde => CORAL,
        Preset::Eva => FERN,
        Preset::VAttention => ROSE,
        Preset::ScatterbrainScan => GOLD,
        Preset::Int8 => RUST,
        Preset::Int8Scores => MOSS,
        // One that came without a colour; a test asks for its own.
        _ => GREY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_method_has_its_own_colour() {
        let colours: HashSet<_> = Preset::ALL.map(method).into_iter().map(|c| (c.0, c.1, c.2)).collect();
        assert_eq!(colours.len(), Preset::ALL.len());
    }

    /// Every colour of this file but the ground has its rule in the page's style sheet for the dark.
    #[test]
    fn every_colour_has_a_dark_one() {
        let page = include_str!("../../templates/report.html");
        let code = include_str!("ink.rs");
        let colours =
            code.lines().filter(|line| line.starts_with("pub(super) const") && line.contains("= RGBColor(0x"));
        let mut count = 0;
        for line in colours {
            let hex: String = line.split("0x").skip(1).map(|part| &part[..2]).collect();
            count += 1;
            assert!(hex == "FFFFFF" || page.contains(&format!("=\"#{hex}\"")), "{line}");
        }
        assert!(count > 15, "{count}");
    }
}
