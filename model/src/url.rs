//! Passwords in URLs.

/// Returns the character of a URL's password that ends it too early, so that the rest would be
/// taken for a path (RFC 3986 section 3.2).
pub fn unescaped(url: &str) -> Option<char> {
    let (_, rest) = url.split_once("://")?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, after) = rest.split_at(end);
    (authority.contains(':') && after.contains('@')).then_some(after.chars().next()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_character_that_cuts_a_password_is_named() {
        for (url, expect) in [
            ("postgres://ajar:secret@db.example/ajar", None),
            ("postgres://ajar:s%40ecret@db.example/ajar", None),
            ("postgres:///ajar?host=/run/postgresql", None),
            ("redis://:secret@127.0.0.1:6379/0", None),
            ("ajar.db", None),
            ("postgres://ajar:se/cret@db.example/ajar", Some('/')),
            ("postgres://ajar:se#cret@db.example/ajar", Some('#')),
            ("postgres://ajar:se?cret@db.example/ajar", Some('?')),
            // The last one ends it.
            ("postgres://ajar:se@cret@db.example/ajar", None),
            ("postgres://ajar:p@ss/word@db.example/ajar", Some('/')),
        ] {
            assert_eq!(unescaped(url), expect, "{url}");
        }
    }
}
