//! Medians and ratios, as tables in Markdown.

use std::fmt::Write as _;

/// A table and the ratios that follow from it.
pub struct Table {
    title: String,
    rows: Vec<Vec<String>>,
    notes: Vec<String>,
    pictures: Vec<Picture>,
}

/// An SVG that belongs beside the report.
pub struct Picture {
    pub name: String,
    pub svg: String,
}

impl Table {
    pub fn new(title: &str, columns: &[&str]) -> Self {
        Self {
            title: title.to_owned(),
            rows: vec![columns.iter().map(|&column| column.to_owned()).collect()],
            notes: Vec::new(),
            pictures: Vec::new(),
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

    pub fn picture(&mut self, name: &str, svg: &str) {
        self.pictures.push(Picture {
            name: name.to_owned(),
            svg: svg.to_owned(),
        });
    }

    pub fn pictures(&self) -> &[Picture] {
        &self.pictures
    }

    pub fn markdown(&self) -> String {
        let mut text = format!("## {}\n\n", self.title);
        for (at, row) in self.rows.iter().enumerate() {
            let _ = writeln!(text, "| {} |", row.join(" | "));
            if at == 0 {
                let _ = writeln!(text, "|{}", " --- |".repeat(row.len()));
            }
        }
        for picture in &self.pictures {
            let _ = writeln!(text, "\n![{}]({})", self.title, picture.name);
        }
        text.push('\n');
        for note in &self.notes {
            let _ = writeln!(text, "- {note}");
        }
        text
    }
}

/// A figure of several runs: the middle one, and the least and the most.
pub fn spread<T>(runs: &[T], decimals: usize, figure: impl Fn(&T) -> f64) -> String {
    let mut figures: Vec<f64> = runs.iter().map(figure).collect();
    figures.sort_by(f64::total_cmp);
    let (Some(least), Some(most)) = (figures.first(), figures.last()) else {
        return "none".to_owned();
    };
    let middle = figures[figures.len() / 2];
    match least == most {
        true => format!("{middle:.decimals$}"),
        false => format!("{middle:.decimals$} ({least:.decimals$} to {most:.decimals$})"),
    }
}
