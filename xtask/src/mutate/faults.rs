//! The faults: each a mistake that is easy to make and changes results.

/// One deliberate fault.
pub(super) struct Fault {
    pub(super) name: &'static str,
    pub(super) file: &'static str,
    /// Stands exactly once in the file.
    pub(super) find: &'static str,
    pub(super) replace: &'static str,
    /// The package whose tests must turn red.
    pub(super) package: &'static str,
}

const COMBINE: &str = "scatterbrain-combine";
const BLOCKS: &str = "scatterbrain-blocks";
const CORE: &str = "scatterbrain-core";
const TILE: &str = "crates/scatterbrain-combine/src/tile.rs";
const ATTEND: &str = "crates/scatterbrain-combine/src/attend.rs";
const CLUSTERS: &str = "crates/scatterbrain-blocks/src/clusters.rs";
const MASK: &str = "crates/scatterbrain-core/src/mask.rs";
const SUMMARY: &str = "crates/scatterbrain-features/src/summary.rs";
const FEATURE_TILE: &str = "crates/scatterbrain-features/src/tile.rs";

const fn fault(
    name: &'static str,
    package: &'static str,
    file: &'static str,
    find: &'static str,
    replace: &'static str,
) -> Fault {
    Fault { name, file, find, replace, package }
}

/// All faults.
pub(super) const FAULTS: &[Fault] = &[
    fault("correction-dropped", COMBINE, TILE, "s[lane] -= factor[lane] * e[lane];", "let _ = (factor, &s);"),
    fault("correction-dropped-in-lists", COMBINE, TILE, "*s -= factor * e;", "let _ = (factor, s);"),
    fault("duplicate-counted-twice", COMBINE, CLUSTERS, "!self.rounds[..round].iter()", "!self.rounds[..0].iter()"),
    fault(
        "union-duplicates",
        COMBINE,
        "crates/scatterbrain-blocks/src/union.rs",
        "known.binary_search(k).is_err()",
        "known.binary_search(k).is_err() || true",
    ),
    fault(
        "lookback-does-not-wrap",
        "xtask",
        CLUSTERS,
        "(count > 1 && cluster != NONE)",
        "(cluster > 0 && cluster != NONE)",
    ),
    fault("key-length-ignored", COMBINE, MASK, "self.key_lengths.map_or(m, |l| l[batch])", "{ let _ = batch; m }"),
    fault(
        "causal-off-by-one",
        COMBINE,
        MASK,
        "(self.position(query_idx) + 1).max(0)",
        "self.position(query_idx).max(0)",
    ),
    fault(
        "later-key-in-a-maximum",
        COMBINE,
        SUMMARY,
        "raise(&mut top, 0..self.blocks.length.min(1));",
        "raise(&mut top, 0..self.blocks.length);",
    ),
    fault(
        "wrong-group's-key",
        COMBINE,
        ATTEND,
        "self.key.head(batch, kv_head)",
        "self.key.head(batch, kv_heads - 1 - kv_head)",
    ),
    fault(
        "boolean-mask-ignored-in-background",
        COMBINE,
        FEATURE_TILE,
        "|| allowed.is_some_and(|a| a[j] == 0)",
        "|| allowed.is_some_and(|_| false)",
    ),
    fault("window-misses-a-block", COMBINE, FEATURE_TILE, "for b in inside {", "for b in inside.skip(1) {"),
    fault(
        "scale-ignored-in-features",
        COMBINE,
        SUMMARY,
        "Role::Key.factor(self.keys.scale)",
        "Role::Key.factor(self.keys.scale.signum())",
    ),
    fault(
        "log-scale-dropped",
        COMBINE,
        TILE,
        "self.out.log_sum_exp[r] = max + denominator.ln();",
        "self.out.log_sum_exp[r] = denominator.ln() + 0.0 * max;",
    ),
    fault(
        "cancellation-unchecked",
        COMBINE,
        TILE,
        "denominator > CANCELLED * terms",
        "denominator > -CANCELLED * terms",
    ),
    fault(
        "taint-not-marked",
        COMBINE,
        TILE,
        "if self.spoiled(i, keys.as_deref()) {",
        "if self.spoiled(i, None) && false {",
    ),
    fault(
        "neighbours-decide-the-kernel",
        COMBINE,
        CLUSTERS,
        "if dense && group.len() >= DENSE_ROWS {",
        "let _ = dense;\n            if group.len() >= DENSE_ROWS {",
    ),
    fault(
        "softmax-not-rescaled",
        CORE,
        "crates/scatterbrain-core/src/kernel/softmax.rs",
        "simd.mul_f32s(sum[v], shrink)",
        "sum[v]",
    ),
    fault(
        "lowest-keys-selected",
        BLOCKS,
        "crates/scatterbrain-blocks/src/topk.rs",
        "b.0.total_cmp(&a.0)",
        "a.0.total_cmp(&b.0)",
    ),
];

#[cfg(test)]
mod tests {
    use super::FAULTS;
    use std::path::Path;

    /// A fault whose text has moved would only be noticed by the long run otherwise.
    #[test]
    fn every_fault_stands_exactly_once_in_its_file() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        for fault in FAULTS {
            let text = std::fs::read_to_string(root.join(fault.file)).unwrap();
            assert_eq!(text.matches(fault.find).count(), 1, "{}", fault.name);
        }
    }
}
