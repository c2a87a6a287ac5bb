//! `ajar audit …`: who did what, and that nobody changed it since.
//!
//! Each entry's hash covers the entry and the hash before it. Whoever can write to the store could make a new chain: a head that
//! was signed and kept elsewhere shows that they did.

use std::{io::Write, path::Path};

use ajar_model::{Timestamp, signers};
use ajar_proto::{convert, v1};
use ajar_store::{AuditChain, AuditEntry, AuditLink};
use tokio_stream::StreamExt;

use crate::{
    args,
    cluster::Cluster,
    exit::{Ended, OrRefuse, from_status, refuse},
    request, signers as accepted,
};

/// What a head's signature is for.
const NAMESPACE: &str = "ajar-audit";

pub async fn run(command: args::Audit) -> anyhow::Result<Ended> {
    match command {
        args::Audit::Show(source) => show(&source).await,
        args::Audit::Head(source) => head(&source).await,
        args::Audit::Verify(options) => verify(&options).await,
    }
}

async fn show(source: &args::Source) -> anyhow::Result<Ended> {
    let mut out = std::io::stdout().lock();
    read(source, |AuditLink { number, entry, .. }| {
        let AuditEntry {
            at,
            actor,
            action,
            authorization,
            campaign,
            detail,
        } = entry;
        let campaign = campaign.map_or_else(|| "-".to_owned(), |id| id.to_string());
        let authorization = authorization.unwrap_or_else(|| "-".to_owned());
        writeln!(
            out,
            "{number:>6}  {at:.0}  {action:<18}  {campaign:<26}  {authorization:<26}  {actor}: {detail}"
        )?;
        Ok(())
    })
    .await?;
    Ok(Ended::Finished)
}

/// The end of the chain, as a text to sign.
async fn head(source: &args::Source) -> anyhow::Result<Ended> {
    let (mut chain, mut last) = (AuditChain::new(), None);
    read(source, |link| {
        chain.check(&link)?;
        last = Some(link);
        Ok(())
    })
    .await?;
    let Some(last) = last else {
        return refuse("the audit log has no entry yet");
    };
    write!(std::io::stdout(), "{}", text(&last))?;
    Ok(Ended::Finished)
}

async fn verify(options: &args::AuditVerify) -> anyhow::Result<Ended> {
    let signers = options.allowed_signers.as_deref();
    let head = options.head.as_deref();
    let head = match head {
        Some(head) => Some((head, signed_head(head, signers)?)),
        None => None,
    };
    let (mut chain, mut is_held) = (AuditChain::new(), false);
    read(&options.source, |link| {
        chain.check(&link)?;
        is_held |= head
            .as_ref()
            .is_some_and(|(_, (signed, _))| text(&link) == *signed);
        Ok(())
    })
    .await?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{} entries form one chain", chain.entries())?;
    let Some((head, (_, signer))) = head else {
        return Ok(Ended::Finished);
    };
    if !is_held {
        anyhow::bail!(
            "the audit log does not hold the entry of {}: it was changed or cut since that was signed",
            head.display()
        );
    }
    writeln!(
        out,
        "it holds the entry of {}, signed by {signer}",
        head.display()
    )?;
    Ok(Ended::Finished)
}

/// A head's text, whose signature is good, and who signed it.
fn signed_head(head: &Path, signers_file: Option<&Path>) -> anyhow::Result<(String, String)> {
    let read = |path: &Path| {
        std::fs::read_to_string(path)
            .map_err(|error| format!("{} cannot be read: {error}", path.display()))
            .or_refuse()
    };
    let (text, signature) = (read(head)?, read(&request::signature_path(head))?);
    let signers = accepted::now(signers_file)?;
    let signer = signers::signer_of(&text, &signature, NAMESPACE, &signers, Timestamp::now())
        .map_err(|cause| format!("{}: {cause}", head.display()))
        .or_refuse()?;
    Ok((text, signer))
}

fn text(link: &AuditLink) -> String {
    let hash: String = link.hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("ajar audit log\nentry {}\nsha256 {hash}\n", link.number)
}

/// Hands each entry over, oldest first.
async fn read(
    source: &args::Source,
    mut take: impl FnMut(AuditLink) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let cluster = Cluster::read(source).await?;
    let request = v1::AuditRequest {};
    let listed = cluster.coordinator().campaigns().audit(request).await;
    let mut pages = listed.map_err(from_status)?.into_inner();
    while let Some(page) = pages.next().await {
        for link in page.map_err(from_status)?.links {
            take(link_in(link)?)?;
        }
    }
    cluster.stop().await
}

fn link_in(link: v1::AuditLink) -> anyhow::Result<AuditLink> {
    let campaign = Some(link.campaign).filter(|id| !id.is_empty());
    Ok(AuditLink {
        number: link.number,
        hash: link
            .hash
            .try_into()
            .map_err(|_| anyhow::anyhow!("the coordinator sent a hash of another length"))?,
        entry: AuditEntry {
            at: convert::time_in("at", link.at)?,
            actor: link.actor,
            action: link.action,
            authorization: link.authorization,
            campaign: campaign.as_deref().map(convert::campaign_id).transpose()?,
            detail: link.detail,
        },
    })
}
