//! A drawing in pixels, and its name for those who cannot see it.

use anyhow::{Context as _, Result};
use askama::Template;
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree};
use std::sync::Arc;

/// Pixels for one of the drawing's own.
const SCALE: f32 = 2.0;

/// An SVG as PNG. The font is part of this program, so that the picture is the same on every machine.
///
/// # Errors
/// No SVG, or one without a size.
pub(super) fn png(svg: &str) -> Result<Vec<u8>> {
    let mut options = Options::default();
    let fonts = Arc::make_mut(&mut options.fontdb);
    fonts.load_font_data(dejavu::sans::regular().to_vec());
    fonts.set_sans_serif_family("DejaVu Sans");
    let tree = Tree::from_str(svg, &options)?;
    let size = tree.size().to_int_size().scale_by(SCALE).context("a drawing of a size")?;
    let mut pixels = Pixmap::new(size.width(), size.height()).context("a drawing of a size")?;
    resvg::render(&tree, Transform::from_scale(SCALE, SCALE), &mut pixels.as_mut());
    Ok(pixels.encode_png()?)
}

/// The start of a drawing, with a name.
#[derive(Template)]
#[template(
    source = r#"<svg role="img" aria-label="{{ alt }}"{{ attributes|safe }}><title>{{ title }}</title><desc>{{ alt }}</desc>"#,
    ext = "svg"
)]
struct Opening<'a> {
    title: &'a str,
    alt: &'a str,
    attributes: &'a str,
}

/// The same SVG with a title and a description.
///
/// # Errors
/// A text that is no SVG.
pub(super) fn named(svg: &str, title: &str, alt: &str) -> Result<String> {
    let start = svg.find("<svg").context("no SVG")?;
    let end = start + svg[start..].find('>').context("an SVG whose start tag ends")?;
    let opening = Opening { title, alt, attributes: &svg[start + 4..end] }.render()?;
    Ok(format!("{opening}{}", &svg[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SQUARE: &str = r##"<svg width="10" height="6" xmlns="http://www.w3.org/2000/svg"><rect width="10" height="6" fill="#FF0000"/></svg>"##;

    #[test]
    fn pixels() {
        let picture = Pixmap::decode_png(&png(SQUARE).unwrap()).unwrap();
        assert_eq!((picture.width(), picture.height()), (20, 12));
        let pixel = picture.pixel(7, 7).unwrap();
        assert_eq!((pixel.red(), pixel.green(), pixel.alpha()), (255, 0, 255));
    }

    #[test]
    fn text_leaves_ink() {
        let text = r#"<svg width="40" height="20" xmlns="http://www.w3.org/2000/svg"><text x="2" y="15" font-family="sans-serif" font-size="14">Δ 10</text></svg>"#;
        let picture = Pixmap::decode_png(&png(text).unwrap()).unwrap();
        assert!(picture.pixels().iter().filter(|p| p.alpha() > 128).count() > 50);
    }

    #[test]
    fn names_are_escaped() {
        let named = named(SQUARE, "a < b", "c \"d\" & e").unwrap();
        assert!(named.starts_with("<svg role=\"img\" aria-label=\"c &#34;d&#34; &#38; e\" width=\"10\""), "{named}");
        assert!(named.contains("<title>a &#60; b</title>") && png(&named).is_ok());
    }
}
