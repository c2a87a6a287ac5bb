//! Medians and ratios, as tables in Markdown.

use std::fmt::Write as _;

/// A table and the ratios that follow from it.
pub struct Table {
    title: String,
    rows: Vec<Vec<String>>,
    notes: Vec<String>,
}

impl Table {
    pub fn new(title: &str, columns: &[&str]) -> Self {
        Self {
            title: title.to_owned(),
            rows: vec![columns.iter().map(|&column| column.to_owned()).collect()],
            notes: Vec::new(),
        }
    }

    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The ratio of a figure in runs that were made in turn: the median of the rounds', and their range.
    pub fn ratio<T>(&mut self, what: &str, ours: &[T], theirs: &[T], figure: impl Fn(&T) -> f64) {
        let rounds = ours.iter().zip(theirs);
        let mut ratios: Vec<f64> = rounds
            .map(|(our, their)| figure(our) / figure(their))
            .collect();
        ratios.sort_by(f64::total_cmp);
        let (Some(least), Some(most)) = (ratios.first(), ratios.last()) else {
            return;
        };
        let middle = ratios[ratios.len() / 2];
        self.note(&format!(
            "{what}: **{middle:.2}** ({least:.2} to {most:.2})"
        ));
    }

    pub fn note(&mut self, note: &str) {
        self.notes.push(note.to_owned());
    }

    pub fn markdown(&self) -> String {
        let mut text = format!("## {}\n\n", self.title);
        for (at, row) in self.rows.iter().enumerate() {
            let _ = writeln!(text, "| {} |", row.join(" | "));
            if at == 0 {
                let _ = writeln!(text, "|{}", " --- |".repeat(row.len()));
            }
        }
        text.push('\n');
        for note in &self.notes {
            let _ = writeln!(text, "- {note}");
        }
        text
    }
}

/// The middle one of a figure of several runs.
pub fn median<T>(runs: &[T], figure: impl Fn(&T) -> f64) -> f64 {
    let mut figures: Vec<f64> = runs.iter().map(figure).collect();
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}
