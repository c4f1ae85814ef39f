//! A table in Markdown.

/// Columns are set to the right but for the first `left`.
pub(crate) struct Table {
    left: usize,
    lines: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(left: usize, head: Vec<String>) -> Self {
        Self { left, lines: vec![head] }
    }

    pub(crate) fn line(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.lines[0].len());
        self.lines.push(cells);
    }

    /// Nothing where there is no line below the head.
    pub(crate) fn render(&self) -> String {
        if self.lines.len() == 1 {
            return String::new();
        }
        let rule = (0..self.lines[0].len()).map(|at| if at < self.left { "---" } else { "---:" }.to_owned());
        let mut lines = self.lines.clone();
        lines.insert(1, rule.collect());
        lines.iter().map(|cells| format!("| {} |\n", cells.join(" | "))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Table;

    #[test]
    fn a_table() {
        let mut table = Table::new(1, vec!["method".into(), "n".into()]);
        assert_eq!(table.render(), "");
        table.line(vec!["local".into(), "64".into()]);
        assert_eq!(table.render(), "| method | n |\n| --- | ---: |\n| local | 64 |\n");
    }
}
