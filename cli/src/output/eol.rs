//! Which versions a list calls outdated (`--eol`).
//!
//! A line is a vendor and a product as the CPE dictionary spells them, and the first version that is still maintained; none if no
//! version is: `squid-cache,squid,6.0` or `polipo_project,polipo,`.

use std::{cmp::Ordering, fs, str::FromStr};

use ajar_model::{Finding, product::Product};

use super::Writer;

/// A list that was read.
#[derive(Debug, Clone)]
pub struct List(Vec<Line>);

#[derive(Debug, Clone)]
struct Line {
    /// How the CPE names of its product begin.
    prefix: String,
    maintained: Option<String>,
}

impl FromStr for List {
    type Err = String;

    /// Reads the file of this name.
    fn from_str(path: &str) -> Result<Self, String> {
        let text = fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
        Self::parse(&text).map_err(|(line, why)| format!("{path}:{line}: {why}"))
    }
}

impl List {
    fn parse(text: &str) -> Result<Self, (usize, String)> {
        let lines = text.lines().map(str::trim).zip(1..);
        let lines = lines.filter(|(line, _)| !line.is_empty() && !line.starts_with('#'));
        let lines = lines.map(|(line, number)| {
            let cells: Vec<&str> = line.split(',').map(str::trim).collect();
            let [vendor, product, version] = cells[..] else {
                let why = "expected vendor,product,first maintained version";
                return Err((number, why.to_owned()));
            };
            if !version.is_empty() && !version.starts_with(|c: char| c.is_ascii_digit()) {
                return Err((number, format!("{version:?} is not a version")));
            }
            Ok(Line {
                prefix: format!("cpe:2.3:a:{vendor}:{product}:"),
                maintained: (!version.is_empty()).then(|| version.to_owned()),
            })
        });
        lines.collect::<Result<_, _>>().map(Self)
    }

    /// Whether it calls a product's version outdated; none if it cannot tell.
    fn judges(&self, product: &Product) -> Option<bool> {
        let mut lines = self.0.iter();
        let line = lines.find(|line| product.cpe.starts_with(&line.prefix))?;
        match (&line.maintained, &product.version) {
            (None, _) => Some(true),
            (Some(maintained), Some(version)) => Some(compare(version, maintained).is_lt()),
            (Some(_), None) => None,
        }
    }
}

/// Part by part, by number where both are one.
fn compare(one: &str, other: &str) -> Ordering {
    let parts = |version: &str| -> Vec<String> {
        let digits = |c: char| c.is_ascii_digit();
        version
            .split(['.', '-', '_'])
            .flat_map(|part| {
                let end = part.find(|c| !digits(c)).unwrap_or(part.len());
                let (number, rest) = part.split_at(end);
                [number.to_owned(), rest.to_owned()]
            })
            .collect()
    };
    let (one, other) = (parts(one), parts(other));
    let length = one.len().max(other.len());
    let part = |version: &[String], at: usize| version.get(at).cloned().unwrap_or_default();
    (0..length)
        .map(|at| {
            let (one, other) = (part(&one, at), part(&other, at));
            let number = |text: &str| if text.is_empty() { Ok(0) } else { text.parse() };
            match (number(&one), number(&other)) {
                (Ok::<u64, _>(one), Ok(other)) => one.cmp(&other),
                _ => one.cmp(&other),
            }
        })
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}

/// Marks what passes through.
pub(super) struct Marking {
    pub(super) list: List,
    pub(super) writer: Box<dyn Writer>,
}

impl Writer for Marking {
    fn write(&mut self, finding: &Finding) -> anyhow::Result<()> {
        let mut finding = finding.clone();
        if let Some(product) = &mut finding.product {
            product.outdated = self.list.judges(product);
        }
        self.writer.write(&finding)
    }

    fn finish(self: Box<Self>) -> anyhow::Result<()> {
        self.writer.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn product(cpe: &str, version: Option<&str>) -> Product {
        Product {
            vendor: String::new(),
            version: version.map(str::to_owned),
            cpe: cpe.to_owned(),
            outdated: None,
        }
    }

    #[test]
    fn a_version_is_judged_by_the_first_that_is_maintained() {
        let list = "# of today\nsquid-cache,squid,6.0\n\npolipo_project,polipo,\nexim,exim,4.98\n";
        let list = List::parse(list).unwrap();
        let check = |name: &str, version: Option<&str>, expect: Option<bool>| {
            let product = product(&format!("cpe:2.3:a:{name}:*"), version);
            assert_eq!(list.judges(&product), expect, "{name} {version:?}");
        };
        check("squid-cache:squid", Some("5.7"), Some(true));
        check("squid-cache:squid", Some("6"), Some(false));
        check("squid-cache:squid", Some("6.13"), Some(false));
        check("squid-cache:squid", Some("10.1"), Some(false));
        check("squid-cache:squid", None, None);
        check("polipo_project:polipo", None, Some(true));
        check("exim:exim", Some("4.96"), Some(true));
        check("exim:exim", Some("4.100"), Some(false));
        check("f5:nginx", Some("1.0"), None);
    }

    #[test]
    fn a_line_that_is_none_is_named() {
        let error = |text: &str| List::parse(text).unwrap_err();
        assert_eq!(error("a,b,1\nsquid 6").0, 2);
        assert_eq!(error("a,b,new").1, "\"new\" is not a version");
    }
}
