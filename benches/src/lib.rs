//! Criterion benches: `benches/methods.rs` times whole calls, `benches/operations/` the parts under them.
//!
//! `cargo bench -p scatterbrain-benches` measures; `cargo test` runs every bench once, on small inputs where the full
//! ones would take long ([`Sizes`]).

#![forbid(unsafe_code)]

/// Which sizes a bench program takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sizes {
    /// Those that are measured.
    Full,
    /// Those that only show that the bench runs.
    Small,
}

impl Sizes {
    /// From the arguments of the program: `cargo bench` passes `--bench`, `cargo test` does not.
    pub fn from_arguments(arguments: impl IntoIterator<Item = String>) -> Self {
        let arguments: Vec<String> = arguments.into_iter().collect();
        let has = |name: &str| arguments.iter().any(|a| a == name);
        if has("--bench") && !has("--test") { Sizes::Full } else { Sizes::Small }
    }

    /// Queries and keys of a call.
    pub fn lengths(self) -> &'static [usize] {
        match self {
            Sizes::Full => &[1024, 4096],
            Sizes::Small => &[160],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Sizes;

    #[test]
    fn only_cargo_bench_takes_full_sizes() {
        let of = |arguments: &[&str]| Sizes::from_arguments(arguments.iter().map(ToString::to_string));
        assert_eq!(of(&["program", "--bench"]), Sizes::Full);
        assert_eq!(of(&["program", "--bench", "--test"]), Sizes::Small);
        assert_eq!(of(&["program"]), Sizes::Small);
    }
}
