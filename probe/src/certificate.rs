//! The names in a server's certificate (RFC 5280 section 4.2.1.6). A stranger's words. Pure.

use ajar_model::target;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Names of one certificate that are kept.
const MAX_NAMES: usize = 4;

/// Returns the host names with a dot that a certificate is for. A wildcard stands for the domain
/// that it is in.
pub(crate) fn names(der: &[u8]) -> Vec<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else {
        return Vec::new();
    };
    let alternatives = certificate.subject_alternative_name().ok().flatten();
    let alternatives = alternatives
        .iter()
        .flat_map(|names| &names.value.general_names);
    let mut names: Vec<String> = Vec::new();
    for name in alternatives {
        let GeneralName::DNSName(name) = name else {
            continue;
        };
        let name = name.strip_prefix("*.").unwrap_or(name).to_ascii_lowercase();
        let is_host = name.contains('.') && target::is_host_name(&name);
        if is_host && !names.contains(&name) && names.len() < MAX_NAMES {
            names.push(name);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_are_read_and_nothing_else() {
        let made = rcgen::generate_simple_self_signed(
            [
                "mx.bugs.example",
                "*.Mail.example",
                "localhost",
                "192.0.2.1",
                "mail.example",
            ]
            .map(str::to_owned),
        );
        let der = made.unwrap().cert.der().to_vec();
        assert_eq!(names(&der), ["mx.bugs.example", "mail.example"]);
        for cut in 0..der.len() {
            assert_eq!(names(&der[..cut]), Vec::<String>::new(), "{cut}");
        }
        let many = (0..100)
            .map(|n| format!("h{n}.example"))
            .collect::<Vec<_>>();
        let made = rcgen::generate_simple_self_signed(many).unwrap();
        assert_eq!(names(made.cert.der()).len(), MAX_NAMES);
    }
}
