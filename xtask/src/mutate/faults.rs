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
const TILE: &str = "crates/scatterbrain-combine/src/tile/mod.rs";
const LISTS: &str = "crates/scatterbrain-combine/src/tile/lists.rs";
const GROUP: &str = "crates/scatterbrain-combine/src/group.rs";
const SCAN: &str = "crates/scatterbrain-combine/src/scan/panel.rs";
const INVERTED: &str = "crates/scatterbrain-combine/src/inverted/mod.rs";
const EPOCH: &str = "crates/scatterbrain-combine/src/inverted/epoch.rs";
const CODE_WEIGHTS: &str = "crates/scatterbrain-core/src/kernel/code_weights.rs";
const QUANTISE: &str = "crates/scatterbrain-core/src/kernel/quantise.rs";
const SEARCH: &str = "crates/scatterbrain-combine/src/plan/search.rs";
const CLUSTERS: &str = "crates/scatterbrain-blocks/src/clusters.rs";
const MASS: &str = "crates/scatterbrain-features/src/sampled_mass.rs";
const EXP2: &str = "crates/scatterbrain-core/src/kernel/exp2.rs";
const SOFTMAX: &str = "crates/scatterbrain-core/src/kernel/softmax.rs";
const MASK: &str = "crates/scatterbrain-core/src/mask.rs";
const SUMMARY: &str = "crates/scatterbrain-features/src/summary.rs";
const PURSUIT: &str = "crates/scatterbrain-combine/src/decompose/pursuit.rs";
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
    fault(
        "correction-dropped",
        CORE,
        SOFTMAX,
        "*s = simd.mul_add_e_f32s(factor, something, *s);",
        "*s = simd.mul_add_e_f32s(factor, simd.splat_f32s(0.0), *s);",
    ),
    fault(
        "correction-dropped-in-lists",
        COMBINE,
        LISTS,
        "*s -= if part.abs() > kernel::NOTHING { part } else { 0.0 };",
        "let _ = (part, s);",
    ),
    fault("codes-fit-by-even-columns-alone", CORE, QUANTISE, "pair(0).max(pair(2))", "pair(0)"),
    fault("a-near-miss-has-no-second-trial", COMBINE, SEARCH, "if may_lend && known", "if false && known"),
    fault("duplicate-counted-twice", COMBINE, CLUSTERS, "!self.rounds[..round].iter()", "!self.rounds[..0].iter()"),
    fault(
        "whole-tile-forgets-a-row",
        COMBINE,
        CLUSTERS,
        "only[k as usize - keys.start] |=",
        "only[k as usize - keys.start] =",
    ),
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
        "if self.keys.mask.is_causal() { logs.row(0) } else { &logs.log }",
        "&logs.log",
    ),
    fault(
        "wrong-group's-key",
        COMBINE,
        GROUP,
        "(self.key.head(batch, kv_head), self",
        "(self.key.head(batch, self.sizes.kv_heads - 1 - kv_head), self",
    ),
    fault("boolean-mask-ignored-in-background", COMBINE, FEATURE_TILE, "if allowed[j] == 0 {", "if allowed[j] > 1 {"),
    fault("window-misses-a-block", COMBINE, FEATURE_TILE, "for b in inside {", "for b in inside.skip(1) {"),
    fault(
        "scale-ignored-in-features",
        COMBINE,
        SUMMARY,
        "Role::Key.factor(self.keys.scale)",
        "Role::Key.factor(self.keys.scale.signum())",
    ),
    fault("log-scale-dropped", COMBINE, TILE, "max * LN_2 + sum.ln()", "sum.ln() + 0.0 * max * LN_2"),
    fault("cancellation-unchecked", COMBINE, TILE, "value > CANCELLED * terms", "value > -CANCELLED * terms"),
    fault(
        "taint-not-marked",
        COMBINE,
        TILE,
        "if self.spoiled(i, keys.as_deref()) {",
        "if self.spoiled(i, None) && false {",
    ),
    fault("totals-pass-left-out", COMBINE, GROUP, "totals: summary.is_some()", "totals: false"),
    fault("row-said-to-hold-all", COMBINE, TILE, "    missing == 0\n", "    missing <= 1\n"),
    fault(
        "chosen-pairs-not-looked-at",
        COMBINE,
        "crates/scatterbrain-core/src/kernel/hide.rs",
        "visible = simd.and_m32s(visible, simd.equal_u32s(bit, own));",
        "let _ = (bit, own);",
    ),
    fault(
        "neighbours-decide-the-kernel",
        COMBINE,
        CLUSTERS,
        "if dense && group.len() >= DENSE_ROWS {",
        "let _ = dense;\n            if group.len() >= DENSE_ROWS {",
    ),
    fault(
        "mass-of-the-support",
        COMBINE,
        MASS,
        "leave_out(&mut scores, (&sample.place, &places), &rows, selection);",
        "leave_out(&mut scores, (&[], &places), &rows, selection);",
    ),
    fault("mass-of-later-keys", COMBINE, MASS, "(1..=seen.end).contains(keys)", "(1..=2 * seen.end).contains(keys)"),
    fault("subnormal-weights", CORE, EXP2, "const SMALLEST: f32 = -126.0;", "const SMALLEST: f32 = -127.0;"),
    fault(
        "subnormal-differences",
        CORE,
        SOFTMAX,
        "let something = simd.select_f32s(simd.greater_than_f32s(size, least), e, simd.splat_f32s(0.0));",
        "let something = e;",
    ),
    fault("softmax-not-rescaled", CORE, SOFTMAX, "*sum = simd.mul_f32s(*sum, *rescale);", ""),
    fault(
        "references-not-raised",
        CORE,
        SOFTMAX,
        "*max = simd.select_f32s(exceeds, top, old);",
        "*max = simd.select_f32s(simd.equal_f32s(old, nothing), top, old);",
    ),
    fault(
        "passes-not-joined",
        COMBINE,
        TILE,
        "self.report.kept[r] = before / value;",
        "self.report.kept[r] = 0.0 * before / value;",
    ),
    fault(
        "pair-of-two-passes-twice",
        COMBINE,
        CLUSTERS,
        "except.push(Except { rows: codes(&own), keys: key_codes });",
        "",
    ),
    fault(
        "last-query-of-a-panel-left-out",
        CORE,
        "crates/scatterbrain-core/src/kernel/pack.rs",
        "range.contains(&lane)",
        "range.contains(&(lane + 1))",
    ),
    fault(
        "lowest-keys-selected",
        BLOCKS,
        "crates/scatterbrain-blocks/src/topk.rs",
        "kernel::pack(level, query, rows, scale, &mut panel);",
        "kernel::pack(level, query, rows, -scale, &mut panel);",
    ),
    fault(
        "multipliers-beyond-lambda",
        COMBINE,
        PURSUIT,
        "wanted.clamp(-lambda, lambda)",
        "wanted.clamp(-1.1 * lambda, lambda)",
    ),
    fault("singular-values-not-shrunk", COMBINE, PURSUIT, "|v| v - 1.0 / self.penalty", "|v| v - 0.9 / self.penalty"),
    fault(
        "missed-singular-value-accepted",
        COMBINE,
        "crates/scatterbrain-combine/src/decompose/partial_svd.rs",
        "    is_positive_definite(Mat",
        "    true || is_positive_definite(Mat",
    ),
    fault(
        "smallest-entries-of-a-row",
        COMBINE,
        "crates/scatterbrain-combine/src/decompose/top.rs",
        "magnitude(b).total_cmp(&magnitude(a))",
        "magnitude(a).total_cmp(&magnitude(b))",
    ),
    fault(
        "rank-costs-one-unit",
        COMBINE,
        "crates/scatterbrain-combine/src/decompose/yardstick.rs",
        "(self.budget - 2 * rank)",
        "(self.budget - rank)",
    ),
    fault("lists-cut-where-rows-begin", COMBINE, INVERTED, "(from / CHUNK * CHUNK..to)", "(from..to)"),
    fault("sizes-of-later-keys", COMBINE, EPOCH, "head.key.first_rows(end), start)", "head.key.first_rows(end), end)"),
    fault(
        "means-of-later-keys",
        COMBINE,
        EPOCH,
        "first = head.key.first_rows(start)",
        "first = head.key.first_rows(end)",
    ),
    fault("orders-beside-features", COMBINE, GROUP, "true => summary.is_none() || by_row,", "true => true,"),
    fault("support-counted-twice-by-a-scan", COMBINE, SCAN, "work.leave_out();", ""),
    fault("hidden-keys-in-a-scan", COMBINE, SCAN, "hide(level, self.tile, &self.rows, &places, scores);", ""),
    fault(
        "values-behind-the-last-key",
        "scatterbrain-attention",
        SCAN,
        "places.end.min(self.scan.length)",
        "places.end.min(value.rows())",
    ),
    fault(
        "weights-rounded-to-the-nearest",
        CORE,
        CODE_WEIGHTS,
        "simd.mul_add_e_f32s(sized, steps.value[v], offset)",
        "simd.mul_f32s(sized, steps.value[v])",
    ),
    fault(
        "groups-of-heavy-weights-by-the-smallest-factor",
        CORE,
        CODE_WEIGHTS,
        "simd.splat_f32s(simd.reduce_max_f32s(tops))",
        "simd.splat_f32s(scales.iter().copied().fold(f32::INFINITY, f32::min))",
    ),
    fault(
        "samples-by-norm-weighed-as-uniform",
        COMBINE,
        "crates/scatterbrain-features/src/sampled.rs",
        "Some((key as u32, -chance.ln() as f32))",
        "Some((key as u32, (count as f32).ln()))",
    ),
    fault(
        "support-among-the-rest",
        COMBINE,
        "crates/scatterbrain-features/src/sampled_rest.rs",
        "range.clone()).count() - support.len();",
        "range.clone()).count();",
    ),
    fault(
        "shares-of-a-group-forgotten",
        COMBINE,
        "crates/scatterbrain-features/src/centroid_tile.rs",
        "whole * self.summary.multiple(key)",
        "whole",
    ),
    fault(
        "effort-that-is-never-spent",
        COMBINE,
        "crates/scatterbrain-combine/src/plan/search.rs",
        "        self.effort.left -= cost(outcome.rows);\n",
        "",
    ),
    fault(
        "budgets-that-try-all-there-is",
        COMBINE,
        "crates/scatterbrain-combine/src/plan/planner.rs",
        "            if cost > effort.left && before > 0 {\n",
        "            if cost < 0.0 {\n",
    ),
    fault(
        "windows-behind-causal-rows",
        BLOCKS,
        "crates/scatterbrain-blocks/src/local.rs",
        "mask.is_causal() || mask.window()",
        "mask.window()",
    ),
    fault(
        "looks-that-nothing-pays",
        COMBINE,
        "crates/scatterbrain-combine/src/plan/planner.rs",
        "        while self.rows > 0 && !self.may_try() {\n",
        "        while false {\n",
    ),
    fault(
        "heads-pay-for-a-scan-alone",
        COMBINE,
        "crates/scatterbrain-combine/src/plan/planner.rs",
        "let mut effort = Effort { left: shared, scanned: false };",
        "let mut effort = Effort { left: 0.0, scanned: false };",
    ),
    fault(
        "means-of-keys-behind-windows",
        COMBINE,
        "crates/scatterbrain-combine/src/scan/centres.rs",
        "head.mask.is_causal() && !head.mask.has_window() && !head.boolean",
        "head.mask.is_causal()",
    ),
    fault(
        "means-that-spare-nothing",
        COMBINE,
        "crates/scatterbrain-combine/src/scan/centres.rs",
        "if after < before { mean }",
        "if before < f64::INFINITY { mean }",
    ),
    fault(
        "means-of-keys-know-later-ones",
        COMBINE,
        "crates/scatterbrain-combine/src/scan/centres.rs",
        "centres.means.push(mean(head.key, start));",
        "centres.means.push(mean(head.key, length));",
    ),
    fault(
        "sums-begin-anew-at-each-block-of-rows",
        CORE,
        "crates/scatterbrain-core/src/kernel/mod.rs",
        "elements(self.row(from + at), column)",
        "elements(self.row(at), column)",
    ),
    fault(
        "strips-reach-beyond-what-a-panel-sees",
        COMBINE,
        "crates/scatterbrain-combine/src/tile/blocks.rs",
        "&& positions == *chunk =>",
        "=>",
    ),
    fault(
        "heads-that-share-keys-pay-alone",
        COMBINE,
        "crates/scatterbrain-combine/src/plan/planner.rs",
        "(fresh - again) / self.call.group_size() as f64 + again",
        "fresh",
    ),
    fault(
        "windows-far-apart-lose-their-sinks",
        BLOCKS,
        "crates/scatterbrain-blocks/src/window.rs",
        "keys.0.chain(keys.1)",
        "keys.1",
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
