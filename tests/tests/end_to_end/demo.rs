//! The README's first command.

use ajar_model::{Finding, Verdict};
use ajar_tests::Ajar;

#[test]
fn the_demo_judges_every_service_rightly_and_ends_by_itself() {
    let ajar = Ajar::new().unwrap();
    let demo = ajar.run("demo --format jsonl").unwrap();
    let findings: Vec<Finding> = demo.findings().unwrap();
    assert!(
        demo.stderr
            .contains("16 of 16 services were judged as what they are"),
        "{}",
        demo.stderr
    );
    assert_eq!(findings.len(), 16);
    for finding in findings {
        assert_eq!(
            finding.verdict == Verdict::Open,
            finding.proof.is_some(),
            "{finding:?}"
        );
    }
}
