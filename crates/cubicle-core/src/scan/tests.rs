use serde_json::json;

use super::*;

const DIGEST: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const OTHER: &str = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

fn trivy(severity: &str, fixed: &str) -> serde_json::Value {
    json!({
        "SchemaVersion": 2,
        "CreatedAt": "2026-05-01T10:00:00.5+02:00",
        "ArtifactName": "registry.example/jupyter:1",
        "ArtifactType": "container_image",
        "Metadata": {"ImageID": OTHER, "RepoDigests": [format!("registry.example/jupyter@{DIGEST}")]},
        "Results": [
            {"Target": "debian", "Class": "os-pkgs", "Vulnerabilities": [{
                "VulnerabilityID": "CVE-2024-3094", "PkgName": "xz-utils", "InstalledVersion": "5.6.0",
                "FixedVersion": fixed, "Severity": severity,
            }]},
            {"Target": "python", "Class": "lang-pkgs"},
        ],
    })
}

fn grype(severity: &str, versions: &[&str]) -> serde_json::Value {
    json!({
        "matches": [{
            "vulnerability": {"id": "CVE-2024-3094", "severity": severity,
                              "fix": {"versions": versions, "state": if versions.is_empty() { "not-fixed" } else { "fixed" }}},
            "artifact": {"name": "xz-utils", "version": "5.6.0"},
        }],
        "source": {"type": "image", "target": {"userInput": "registry.example/jupyter:1", "imageID": OTHER,
                   "manifestDigest": DIGEST, "repoDigests": []}},
        "descriptor": {"name": "grype", "version": "0.90.0", "timestamp": "2026-05-01T08:00:00.5Z"},
    })
}

fn parse(document: &serde_json::Value) -> Scan {
    Scan::parse(document.to_string().as_bytes()).expect("a scan")
}

fn judge(rule: &ScanRule, scan: &Scan) -> Judgement {
    rule.judge(Some(scan), &[DIGEST.to_owned()], now())
}

fn now() -> Timestamp {
    "2026-05-10T00:00:00Z".parse().expect("a time")
}

#[test]
fn both_scanners_say_the_same() {
    let (one, other) = (parse(&trivy("CRITICAL", "5.6.2")), parse(&grype("Critical", &["5.6.2"])));
    assert_eq!((one.scanner.as_str(), other.scanner.as_str()), ("trivy", "grype"));
    assert_eq!(one.vulnerabilities, other.vulnerabilities);
    assert_eq!((&one.counts, one.scanned_at), (&other.counts, other.scanned_at));
    assert_eq!(one.digests, [DIGEST, OTHER]);
    for scan in [one, other] {
        let judgement = judge(&ScanRule::default(), &scan);
        assert_eq!((judgement.verdict, judgement.opens), (Verdict::Breached, false));
        assert!(judgement.reason.starts_with("the image holds CVE-2024-3094 in xz-utils 5.6.0"), "{judgement:?}");
    }
}

#[test]
fn the_sites_rule_decides() {
    let with_fix = parse(&trivy("HIGH", "5.6.2"));
    let without = parse(&trivy("CRITICAL", ""));
    let rule = ScanRule::default();
    assert_eq!(judge(&rule, &with_fix).verdict, Verdict::Held);
    assert_eq!(judge(&rule, &without).verdict, Verdict::Held);
    let high = ScanRule { refuse: Severity::High, ..rule.clone() };
    assert_eq!(judge(&high, &with_fix).verdict, Verdict::Breached);
    assert_eq!(judge(&high, &without).verdict, Verdict::Held);
    let all = ScanRule { fixable_only: false, ..rule };
    assert_eq!(judge(&all, &without).verdict, Verdict::Breached);
    // The wall taken away: without the finding the same rule opens.
    let mut clean = trivy("CRITICAL", "5.6.2");
    clean["Results"] = json!([]);
    assert_eq!(judge(&high, &parse(&clean)).verdict, Verdict::Held);
    clean.as_object_mut().expect("an object").remove("Results");
    assert_eq!(judge(&high, &parse(&clean)).verdict, Verdict::Held);
}

#[test]
fn what_says_nothing_about_this_image_now_proves_nothing() {
    let good = trivy("LOW", "5.6.2");
    let strict = ScanRule { required: true, ..ScanRule::default() };
    assert_eq!(judge(&strict, &parse(&good)).verdict, Verdict::Held);
    let changed = |pointer: &str, value: serde_json::Value| {
        let mut document = good.clone();
        *document.pointer_mut(pointer).expect("it is there") = value;
        parse(&document)
    };
    let other_image = changed("/Metadata/RepoDigests", json!([format!("registry.example/jupyter@{OTHER}")]));
    let nameless = {
        let mut document = good.clone();
        document["Metadata"] = json!({});
        parse(&document)
    };
    let old = changed("/CreatedAt", json!("2026-01-01T00:00:00Z"));
    let future = changed("/CreatedAt", json!("2027-01-01T00:00:00Z"));
    let undated = changed("/CreatedAt", json!("yesterday"));
    for (scan, says) in [
        (Some(&other_image), "not about this image"),
        (Some(&nameless), "not about this image"),
        (Some(&old), "older than 30d"),
        (Some(&future), "in the future"),
        (Some(&undated), "does not say when"),
        (None, "no scan of the image was given"),
    ] {
        let refused = strict.judge(scan, &[DIGEST.to_owned()], now());
        assert_eq!((refused.verdict, refused.opens), (Verdict::Unproven, false), "{says}");
        assert!(refused.reason.contains(says), "{}", refused.reason);
        // Where the site does not require a scan, the launch goes on, and nothing is claimed.
        let told = ScanRule::default().judge(scan, &[DIGEST.to_owned()], now());
        assert!(told.opens && told.verdict != Verdict::Held, "{says}");
        assert_eq!(told.alone().first().map(|one| one.verdict), Some(Verdict::NotClaimed), "{says}");
    }
}

#[test]
fn an_unknown_severity_counts_only_where_everything_does() {
    let scan = parse(&trivy("", "5.6.2"));
    assert_eq!(judge(&ScanRule::default(), &scan).verdict, Verdict::Held);
    let all = ScanRule { refuse: Severity::Unknown, ..ScanRule::default() };
    assert_eq!(judge(&all, &scan).verdict, Verdict::Breached);
}

#[test]
fn a_folder_is_known_by_the_digest_in_its_path() {
    let hex = DIGEST.trim_start_matches("sha256:");
    let mut document = trivy("LOW", "");
    document["ArtifactName"] = json!(format!("/var/lib/cubicle/images/{hex}/rootfs"));
    document["Metadata"] = json!({});
    assert_eq!(judge(&ScanRule::default(), &parse(&document)).verdict, Verdict::Held);
    let mut document = grype("Low", &[]);
    document["source"] = json!({"type": "directory", "target": format!("images/{hex}/rootfs")});
    assert_eq!(judge(&ScanRule::default(), &parse(&document)).verdict, Verdict::Held);
}

#[test]
fn a_secret_is_named_and_never_kept() {
    let mut document = trivy("LOW", "");
    document["Results"] = json!([{"Target": "app/.env", "Class": "secret", "Secrets": [
        {"RuleID": "aws-access-key-id", "StartLine": 3, "Match": "AKIAIOSFODNN7EXAMPLE"},
    ]}]);
    let scan = parse(&document);
    assert_eq!(scan.secrets, ["aws-access-key-id in app/.env line 3"]);
    assert!(!serde_json::to_string(&scan).expect("JSON").contains("AKIA"));
}

#[test]
fn what_is_no_scan_is_refused() {
    for bytes in [&b""[..], b"{}", b"[]", b"null", b"\xff", b"{\"SchemaVersion\": 1}", b"{\"matches\": []}"] {
        assert!(Scan::parse(bytes).is_err(), "{bytes:?}");
    }
    // A message that a scanner printed into the file is a document of its own.
    let mut text = b"2026-05-01 INFO scanning\n".to_vec();
    text.extend(trivy("LOW", "").to_string().bytes());
    assert!(Scan::parse(&text).is_err());
}

#[test]
fn a_large_scan_is_kept_short_and_counted_whole() {
    let many: Vec<_> = (0..5000)
        .map(|at| {
            json!({"VulnerabilityID": format!("CVE-{at}"), "PkgName": "\u{1b}[31mp", "InstalledVersion": "1",
                   "FixedVersion": if at % 2 == 0 { "2" } else { "" }, "Severity": if at == 4999 { "CRITICAL" } else { "LOW" }})
        })
        .collect();
    let mut document = trivy("LOW", "");
    document["Results"] = json!([{"Vulnerabilities": many}]);
    let scan = parse(&document);
    assert_eq!(scan.vulnerabilities.len(), MOST_KEPT);
    assert_eq!(scan.counts[&Severity::Low], Count { all: 4999, fixable: 2500 });
    assert_eq!(scan.vulnerabilities[0].id, "CVE-4999");
    assert!(!scan.vulnerabilities[0].package.contains('\u{1b}'));
    let text = serde_json::to_string(&scan).expect("JSON");
    assert!(text.len() < 64 << 10, "{}", text.len());
    assert_eq!(serde_json::from_str::<Scan>(&text).expect("the same"), scan);
}
