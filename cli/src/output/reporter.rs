//! Who reports, in formats that are sent to owners.

/// A name and its mail address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reporter {
    pub organization: String,
    pub contact: String,
    /// The domain of that.
    pub domain: String,
}

impl std::str::FromStr for Reporter {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = || {
            let (organization, address) = text.split_once('<')?;
            let contact = address.trim_end().strip_suffix('>')?;
            let (local, domain) = contact.rsplit_once('@')?;
            let is_plain =
                |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_graphic());
            let organization = organization.trim();
            let named = (1..=200).contains(&organization.chars().count());
            (named && is_plain(local) && is_plain(domain) && domain.contains('.')).then(|| Self {
                organization: organization.to_owned(),
                contact: contact.to_owned(),
                domain: domain.to_owned(),
            })
        };
        parsed().ok_or("expected a name and a mail address, as Example Net <abuse@example.net>")
    }
}
