//! Whose signatures are accepted: the `allowed_signers` file of OpenSSH (ssh-keygen(1), ALLOWED SIGNERS).

use ssh_key::{PublicKey, SshSig, public::KeyData};

use crate::Timestamp;

/// Keys, and what each may sign. An empty list accepts nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedSigners {
    signers: Vec<Signer>,
    /// Where they are listed, for errors.
    file: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Signer {
    principals: String,
    limits: Limits,
    key: KeyData,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Limits {
    namespaces: Option<Vec<String>>,
    valid_after: Option<Timestamp>,
    valid_before: Option<Timestamp>,
}

/// A line that cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}, line {line}: {cause}")]
pub struct Error {
    pub file: String,
    /// The line's number, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub cause: String,
}

impl AllowedSigners {
    /// Reads a file's text; `file` is its name, for errors. Keys of other types than ssh-ed25519 sign no authorization: their
    /// lines are checked as far as that goes, and left out.
    pub fn parse(text: &str, file: &str) -> Result<Self, Error> {
        let lines = text.lines().enumerate();
        let entries = lines.filter(|(_, line)| {
            let line = line.trim();
            !line.is_empty() && !line.starts_with('#')
        });
        let signers = entries.map(|(index, line)| {
            signer(line).map_err(|cause| Error {
                file: file.to_owned(),
                line: index + 1,
                cause,
            })
        });
        let signers: Vec<Option<Signer>> = signers.collect::<Result<_, _>>()?;
        Ok(Self {
            signers: signers.into_iter().flatten().collect(),
            file: file.to_owned(),
        })
    }

    /// Nobody; `file` is where somebody would be listed.
    pub fn nobody(file: &str) -> Self {
        Self {
            signers: Vec::new(),
            file: file.to_owned(),
        }
    }

    /// Where they are listed.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The principals that `key` signs for in `namespace` at `now`; none if it is not allowed to. Both ends of its period
    /// are part of it, as in OpenSSH.
    pub fn principal(&self, key: &KeyData, namespace: &str, now: Timestamp) -> Option<&str> {
        let allowed = |signer: &&Signer| {
            let limits = &signer.limits;
            signer.key == *key
                && limits.valid_after.is_none_or(|after| now >= after)
                && limits.valid_before.is_none_or(|before| now <= before)
                && limits.namespaces.as_ref().is_none_or(|patterns| {
                    patterns
                        .iter()
                        .any(|pattern| matches(pattern.as_bytes(), namespace.as_bytes()))
                })
        };
        self.signers
            .iter()
            .find(allowed)
            .map(|signer| signer.principals.as_str())
    }
}

/// True if principals may sign for a tenant: those that name tenants, as `tenant:acme`, sign for these alone.
pub fn signs_for(principals: &str, tenant: &str) -> bool {
    let named = || {
        let principals = principals.split(',');
        principals.filter_map(|principal| principal.strip_prefix("tenant:"))
    };
    named().next().is_none() || named().any(|named| named == tenant)
}

/// Who signed a text for this purpose, if they may at `now`: the principals of the key.
pub fn signer_of(
    text: &str,
    signature: &str,
    namespace: &str,
    signers: &AllowedSigners,
    now: Timestamp,
) -> Result<String, String> {
    let signature = SshSig::from_pem(signature)
        .map_err(|cause| format!("its signature cannot be read: {cause}"))?;
    if signature.namespace() != namespace {
        return Err(format!(
            "its signature is for {:?}: sign it by `ssh-keygen -Y sign -n {namespace}`",
            signature.namespace()
        ));
    }
    let key = signature.public_key();
    PublicKey::from(key.clone())
        .verify(namespace, text.as_bytes(), &signature)
        .map_err(|_| "its signature is over another text".to_owned())?;
    let signer = signers.principal(key, namespace, now);
    signer
        .map(str::to_owned)
        .ok_or_else(|| format!("its signer is not in {}", signers.file()))
}

fn signer(line: &str) -> Result<Option<Signer>, String> {
    let words = words(line);
    let is_key_type = |word: &str| {
        ["ssh-", "ecdsa-", "sk-"]
            .iter()
            .any(|p| word.starts_with(p))
    };
    let (principals, options, key) = match words.as_slice() {
        [principals, kind, key, ..] if is_key_type(kind) => {
            (principals, "", format!("{kind} {key}"))
        }
        [principals, options, kind, key, ..] if is_key_type(kind) => {
            (principals, options.as_str(), format!("{kind} {key}"))
        }
        _ => return Err("expected PRINCIPALS [OPTIONS] KEYTYPE KEY".to_owned()),
    };
    let limits = limits(options)?;
    if !key.starts_with("ssh-ed25519 ") {
        return Ok(None);
    }
    let key = PublicKey::from_openssh(&key)
        .map_err(|cause| format!("the key cannot be read: {cause}"))?;
    Ok(Some(Signer {
        principals: principals.trim_matches('"').to_owned(),
        limits,
        key: key.key_data().clone(),
    }))
}

fn limits(options: &str) -> Result<Limits, String> {
    let mut limits = Limits::default();
    for option in split_outside_quotes(options, ',').filter(|option| !option.is_empty()) {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let value = value.trim_matches('"');
        match name.to_ascii_lowercase().as_str() {
            "namespaces" if value.contains('!') => {
                return Err("negated namespaces are not understood".to_owned());
            }
            "namespaces" => {
                let patterns = value.split(',').map(str::to_owned).collect();
                once(&mut limits.namespaces, patterns, name)?;
            }
            "valid-after" => once(&mut limits.valid_after, time(value)?, name)?,
            "valid-before" => once(&mut limits.valid_before, time(value)?, name)?,
            "cert-authority" => {
                return Err("certificates are not supported: list the key itself".to_owned());
            }
            _ => return Err(format!("option {name:?} is not understood")),
        }
    }
    Ok(limits)
}

fn once<T>(limit: &mut Option<T>, value: T, name: &str) -> Result<(), String> {
    match limit.replace(value) {
        Some(_) => Err(format!("option {name:?} is given twice")),
        None => Ok(()),
    }
}

fn words(line: &str) -> Vec<String> {
    split_outside_quotes(line.trim(), ' ')
        .flat_map(|word| split_outside_quotes(word, '\t'))
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

fn split_outside_quotes(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |c| {
        quoted ^= c == '"';
        c == separator && !quoted
    })
}

/// `YYYYMMDD[HHMM[SS]]Z`. Without the Z OpenSSH means the local zone, which differs between machines.
fn time(text: &str) -> Result<Timestamp, String> {
    let malformed =
        || format!("{text:?} is not a time: expected YYYYMMDDZ or YYYYMMDDHHMM[SS]Z, in UTC");
    let digits = text.strip_suffix('Z').ok_or_else(malformed)?;
    if !digits.bytes().all(|b| b.is_ascii_digit()) || ![8, 12, 14].contains(&digits.len()) {
        return Err(malformed());
    }
    let all = format!("{digits:0<14}");
    let [date, clock] = [&all[..8], &all[8..]];
    let text = format!(
        "{}-{}-{}T{}:{}:{}Z",
        &date[..4],
        &date[4..6],
        &date[6..],
        &clock[..2],
        &clock[2..4],
        &clock[4..]
    );
    text.parse().map_err(|_| malformed())
}

/// `*` and `?` as in ssh_config(5), PATTERNS.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern, text) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => (0..=text.len()).any(|skip| matches(rest, &text[skip..])),
        ([b'?', pattern @ ..], [_, text @ ..]) => matches(pattern, text),
        ([p, pattern @ ..], [t, text @ ..]) => p == t && matches(pattern, text),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = include_str!("../testdata/signer.pub");

    fn allowed(options: &str, namespace: &str, now: &str) -> bool {
        let text = format!("# people\n\nops@example.net {options} {KEY}");
        let signers = AllowedSigners::parse(&text, "allowed_signers").unwrap();
        let key = PublicKey::from_openssh(KEY).unwrap();
        signers
            .principal(key.key_data(), namespace, now.parse().unwrap())
            .is_some()
    }

    #[test]
    fn options_are_honoured() {
        let now = "2026-11-24T12:00:00Z";
        assert!(allowed("", "x", now));
        assert!(allowed(
            "namespaces=\"file,ajar-*\"",
            "ajar-authorization",
            now
        ));
        assert!(!allowed("namespaces=\"file\"", "ajar-authorization", now));
        assert!(allowed(
            "valid-after=20261124Z,valid-before=\"202611241201Z\"",
            "x",
            now
        ));
        assert!(allowed("valid-before=20261124120000Z", "x", now));
        assert!(!allowed("valid-before=20261124115959Z", "x", now));
        assert!(!allowed("valid-after=\"20261125Z\"", "x", now));
    }

    #[test]
    fn what_is_not_understood_is_refused_with_its_line() {
        let check = |entry: &str, expect: &str| {
            let text = format!("# people\n{entry}");
            let error = AllowedSigners::parse(&text, "f").unwrap_err().to_string();
            assert!(
                error.starts_with("f, line 2: ") && error.contains(expect),
                "{error}"
            );
        };
        check("ops@example.net", "expected PRINCIPALS");
        check(&format!("ops cert-authority {KEY}"), "certificates");
        check(&format!("ops verify-required {KEY}"), "verify-required");
        check(&format!("ops valid-after=20261125 {KEY}"), "not a time");
        check("ops ssh-ed25519 AAAA", "the key cannot be read");
        let twice = format!("ops namespaces=\"file\",namespaces=\"*\" {KEY}");
        check(&twice, "given twice");
    }

    #[test]
    fn keys_of_other_types_are_left_out_without_refusing_the_file() {
        let text = format!("a@b ecdsa-sha2-nistp256 AAAA\na@b ssh-rsa AAAA\nops@b {KEY}");
        let signers = AllowedSigners::parse(&text, "f").unwrap();
        let key = PublicKey::from_openssh(KEY).unwrap();
        let now = "2026-11-24T12:00:00Z".parse().unwrap();
        assert_eq!(signers.principal(key.key_data(), "x", now), Some("ops@b"));
    }
}
