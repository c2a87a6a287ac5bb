//! Findings as viewers see them: without the nonces, which would let a reader forge a receipt.

use ajar_model::{Finding, Observation};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tonic::Status;

/// Hex digits of a nonce, and those of them that viewers see.
const DIGITS: usize = 32;
const SEEN: usize = 8;

/// Returns a finding whose nonces end in zeros.
pub(crate) fn finding(finding: &Finding) -> Result<Finding, Status> {
    masked(finding)
}

/// Returns an observation whose nonces end in zeros, in its transcript too.
pub(crate) fn observation(observation: &Observation) -> Result<Observation, Status> {
    masked(observation)
}

fn masked<T: Serialize + DeserializeOwned>(shown: &T) -> Result<T, Status> {
    let failed =
        |error: serde_json::Error| Status::internal(format!("cannot mask nonces: {error}"));
    let mut value = serde_json::to_value(shown).map_err(failed)?;
    mask(&mut value);
    serde_json::from_value(value).map_err(failed)
}

fn mask(value: &mut Value) {
    match value {
        Value::String(text) => mask_text(text),
        Value::Array(values) => values.iter_mut().for_each(mask),
        Value::Object(fields) => fields.values_mut().for_each(mask),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Masks each run of as many hex digits as a nonce has. Relays may change their case.
fn mask_text(text: &mut String) {
    let is_hex = |c: &char| c.is_ascii_hexdigit();
    let mut masked = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(first) = rest.chars().next() {
        let run = rest.chars().take_while(is_hex).count();
        if run == DIGITS {
            masked.push_str(&rest[..SEEN]);
            masked.push_str(&"0".repeat(DIGITS - SEEN));
        } else {
            masked.push_str(&rest[..run]);
        }
        let skipped = run.max(first.len_utf8());
        if run == 0 {
            masked.push(first);
        }
        rest = &rest[skipped..];
    }
    *text = masked;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonces_are_cut_short_wherever_they_are() {
        let nonce = "00112233445566778899aAbBcCdDeEfF";
        let check = |text: &str, expect: &str| {
            let mut text = text.to_owned();
            mask_text(&mut text);
            assert_eq!(text, expect);
        };
        let cut = "00112233000000000000000000000000";
        check(nonce, cut);
        check(
            &format!("RCPT TO:<{nonce}@canary.test> and SRS0=x={nonce}\u{fc}"),
            &format!("RCPT TO:<{cut}@canary.test> and SRS0=x={cut}\u{fc}"),
        );
        check("01JD3Y5Q9Z8K7W6V5T4S3R2Q1P", "01JD3Y5Q9Z8K7W6V5T4S3R2Q1P");
        check(&format!("{nonce}00"), &format!("{nonce}00"));
        check("", "");
        let mut value =
            serde_json::json!({"proof": {"nonce": nonce}, "transcript": [{"text": nonce}]});
        mask(&mut value);
        assert_eq!(value["proof"]["nonce"], cut);
        assert_eq!(value["transcript"][0]["text"], cut);
    }
}
