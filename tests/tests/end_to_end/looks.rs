//! Lists show the newest campaign that looked at an endpoint.

use ajar_model::{Finding, Verdict};
use ajar_tests::{Access, Site, Squid, at};

#[test]
fn a_door_that_was_shut_later_is_not_exported() {
    let site = Site::new().squid("127.0.93.1:3128", Access::Open);
    let scan = |options: &str| {
        let asked = format!("127.0.93.1-127.0.93.2 -p 3128 --settle 1s {options}");
        site.scan(&asked).findings().unwrap()
    };
    let export = |options: &str| -> Vec<(String, Verdict)> {
        let exported = site
            .ajar
            .run(&format!("findings export {options}"))
            .unwrap();
        let line = |finding: Finding| (finding.campaign.to_string(), finding.verdict);
        exported.findings().unwrap().into_iter().map(line).collect()
    };
    let moving = Squid::start(Access::Open, at("127.0.93.2:3128")).unwrap();
    let first = scan("");
    assert_eq!(first.len(), 2);
    let first = first[0].campaign.to_string();
    let open = (first.clone(), Verdict::Open);
    assert_eq!(export(""), [open.clone(), open.clone()]);

    // The second proxy is shut.
    drop(moving);
    let moving = Squid::start(Access::Closed, at("127.0.93.2:3128")).unwrap();
    let second = scan("")[0].campaign.to_string();
    let by_second = |verdict| (second.clone(), verdict);
    let now = [by_second(Verdict::Open), by_second(Verdict::Closed)];
    assert_eq!(export(""), now);
    // The earlier findings can still be listed.
    assert_eq!(
        export(&format!("--campaign {first}")),
        [open.clone(), open.clone()]
    );
    assert_eq!(export("--history").len(), 4);
    let shown = site.ajar.run("findings show 127.0.93.2:3128").unwrap();
    assert!(
        shown.stdout.contains("\"verdict\": \"closed\""),
        "{shown:?}"
    );
    let earlier = format!("findings show 127.0.93.2:3128 --campaign {first}");
    let shown = site.ajar.run(&earlier).unwrap();
    assert!(shown.stdout.contains("\"verdict\": \"open\""), "{shown:?}");

    // A campaign that asks for less takes nothing back, nor does one that looks elsewhere.
    scan("--probes smtp-relay");
    scan("--tier connect");
    site.scan("127.0.93.2 -p 8080 --settle 1s");
    assert_eq!(export(""), now);

    // The second proxy goes away.
    drop(moving);
    let third = scan("")[0].campaign.to_string();
    assert_eq!(export(""), [(third, Verdict::Open)]);
    let gone = site.ajar.run("findings show 127.0.93.2:3128").unwrap();
    assert_eq!(gone.status, 2);
    assert!(gone.stderr.contains("did not answer"), "{}", gone.stderr);

    let listed = site
        .ajar
        .run("findings list --history --wide")
        .unwrap()
        .stdout;
    let campaigns: Vec<&str> = listed
        .lines()
        .filter(|line| line.starts_with("campaign "))
        .collect();
    assert!(campaigns[0].contains(&first), "{listed}");
    assert!(campaigns.len() >= 3, "{listed}");
    let unknown = "findings list --campaign 01JD3Y5Q9Z8K7W6V5T4S3R2Q1P";
    let refused = site.ajar.run(unknown).unwrap();
    assert_eq!((refused.status, refused.stdout.as_str()), (2, ""));
}
