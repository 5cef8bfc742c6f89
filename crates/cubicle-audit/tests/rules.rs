//! Single rules over one workspace that has every wall (`layouts/clean.yaml`): each is held there,
//! and breached as soon as its mechanism is taken away.

use cubicle_audit::snapshot::{File, Snapshot, Unread};
use cubicle_audit::verdict::{Options, Report, Standing, audit};
use cubicle_core::report::Verdict;
use cubicle_core::scan::Scan;

const CLEAN: &str = include_str!("layouts/clean.yaml");

fn options() -> Options {
    Options {
        api_server: vec!["10.96.0.1:443".parse().expect("an address"), "192.0.2.1:6443".parse().expect("an address")],
        ..Options::default()
    }
}

fn judge(texts: &[&str], options: &Options) -> Report {
    let file = |(at, text): (usize, &&str)| File { name: format!("{at}.yaml"), bytes: text.as_bytes().to_vec() };
    let mut snapshot = Snapshot::from_files(texts.iter().enumerate().map(file).collect());
    assert!(snapshot.is_complete(), "{:?}", snapshot.problems);
    audit(&mut snapshot, options)
}

fn verdict(report: &Report, alias: &str) -> Verdict {
    report.guarantees.iter().find(|one| one.alias == alias).map(|one| one.verdict).expect("it exists")
}

/// What was found about a guarantee, as sentences.
fn found(report: &Report, alias: &str) -> Vec<String> {
    report.findings.iter().filter(|one| one.alias == alias).map(|one| one.sentence.clone()).collect()
}

/// Held before, breached after, with a sentence that says what.
#[track_caller]
fn falls(alias: &str, changed: &[&str], says: &str) {
    let before = judge(&[CLEAN], &options());
    assert_eq!(verdict(&before, alias), Verdict::Held, "{alias}: {:?}", found(&before, alias));
    let after = judge(changed, &options());
    assert_eq!(verdict(&after, alias), Verdict::Breached, "{alias} with {says}");
    assert!(found(&after, alias).iter().any(|one| one.contains(says)), "{says}: {:?}", found(&after, alias));
}

/// Everything may go out.
const OPEN: &str = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: open, namespace: tenant-ada}\nspec: {podSelector: {}, policyTypes: [Egress], egress: [{}]}\n";

fn with_spec(line: &str) -> String {
    CLEAN.replace("  hostUsers: false\n", &format!("  hostUsers: false\n  {line}\n"))
}

#[test]
fn the_clean_cluster_is_clean() {
    let report = judge(&[CLEAN], &options());
    assert_eq!(report.result, Standing::Clean, "{:?}", report.findings);
    assert_eq!(report.summary.breached + report.summary.unproven, 0);
}

#[test]
fn a_node_is_not_chosen_by_what_it_says_of_itself() {
    falls("CP-13", &[&with_spec("nodeSelector: {pool: tenants}")], "pool lacks the prefix");
    falls("CP-13", &[&with_spec("tolerations: [{operator: Exists}]")], "whatever its taints");
    falls(
        "CP-13",
        &[&with_spec("tolerations: [{key: node-role.kubernetes.io/control-plane, operator: Exists}]")],
        "beside the control plane",
    );
    falls("CP-13", &[&with_spec("nodeName: node-1")], "past the scheduler");
    let affinity = "affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: pool, operator: Exists}]}]}}}";
    falls("CP-13", &[&with_spec(affinity)], "pool lacks the prefix");
    for good in [
        "nodeSelector: {node-restriction.kubernetes.io/pool: tenants, kubernetes.io/os: linux}",
        "tolerations: [{key: tenants, operator: Exists}]",
    ] {
        assert_eq!(verdict(&judge(&[&with_spec(good)], &options()), "CP-13"), Verdict::Held, "{good}");
    }
    // A running pod has a node because the scheduler gave it one.
    let running = with_spec("nodeName: node-1").replace("kind: Pod\n", "kind: Pod\nstatus: {phase: Running}\n");
    assert_eq!(verdict(&judge(&[&running], &options()), "CP-13"), Verdict::Held);
}

#[test]
fn etcd_is_behind_a_policy() {
    falls("CP-14", &[CLEAN, OPEN], "reach etcd at 192.0.2.1 port 2379");
    // The address of a Service is not the control plane's machine.
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: kubernetes, namespace: default}\nspec: {clusterIP: 10.96.0.1, ports: [{port: 443}]}\n";
    let report = judge(&[CLEAN, OPEN, service], &options());
    assert!(found(&report, "CP-14").iter().all(|one| !one.contains("10.96.0.1")), "{:?}", found(&report, "CP-14"));
    // Nodes tell where it is.
    let node = "apiVersion: v1\nkind: Node\nmetadata: {name: machine, labels: {node-role.kubernetes.io/control-plane: ''}}\nstatus: {addresses: [{type: InternalIP, address: 192.0.2.9}]}\n";
    let nothing_known = Options::default();
    assert!(found(&judge(&[CLEAN, OPEN, node], &nothing_known), "CP-14").iter().any(|one| one.contains("192.0.2.9")));
    // Where nothing goes out, it does not matter; where something does, nobody can tell.
    assert_eq!(verdict(&judge(&[CLEAN], &nothing_known), "CP-14"), Verdict::Held);
    assert_eq!(verdict(&judge(&[CLEAN, OPEN], &nothing_known), "CP-14"), Verdict::Unproven);
}

#[test]
fn metrics_are_behind_a_policy() {
    let names = "apiVersion: v1\nkind: Pod\nmetadata: {name: coredns, namespace: kube-system, labels: {k8s-app: kube-dns}}\nspec: {containers: [{name: c}]}\n";
    let dns = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: dns, namespace: tenant-ada}\nspec: {podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {}}], ports: [{protocol: UDP, port: 53}]}]}\n";
    let all = dns.replace(", ports: [{protocol: UDP, port: 53}]", "");
    assert_eq!(verdict(&judge(&[CLEAN, names, dns], &options()), "SV-02"), Verdict::Held);
    falls("SV-02", &[CLEAN, names, &all], "read the name server's metrics from Pod kube-system/coredns port 9153");
    // Without a collector among the manifests, only a closed network is known to be closed.
    assert_eq!(verdict(&judge(&[CLEAN, OPEN], &options()), "SV-02"), Verdict::Unproven);
    let zone = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: coredns, namespace: kube-system}\ndata:\n  Corefile: |\n    .:53 {\n        kubernetes cluster.local\n        transfer {\n            to *\n        }\n    }\n";
    falls("SV-02", &[CLEAN, zone], "hand out its whole zone");
    let to_one = zone.replace("to *", "to 192.0.2.7");
    assert_eq!(verdict(&judge(&[CLEAN, &to_one], &options()), "SV-02"), Verdict::Held);
}

#[test]
fn logs_of_others_are_behind_rights_and_mounts() {
    let role = "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: logs}\nrules: [{apiGroups: [''], resources: [pods/log], verbs: [get]}]\n---\napiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {name: logs}\nroleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: logs}\nsubjects: [{kind: ServiceAccount, name: workspace, namespace: tenant-ada}]\n";
    falls("SV-15", &[CLEAN, role], "read the logs of pods anywhere");
    assert_eq!(verdict(&judge(&[CLEAN, &role.replace("pods/log", "pods/status")], &options()), "SV-15"), Verdict::Held);
    for path in ["/var/log", "/var/log/pods", "/", "/var/log/pods/x"] {
        let mounted = with_spec(&format!("volumes: [{{name: l, hostPath: {{path: {path}}}}}]"));
        falls("SV-15", &[&mounted], "read the logs of every pod of its node");
    }
    let other = with_spec("volumes: [{name: l, hostPath: {path: /srv}}]");
    assert_eq!(verdict(&judge(&[&other], &options()), "SV-15"), Verdict::Held);
}

/// A scan of the clean cluster's image, with something in it or without.
fn scan(findings: serde_json::Value) -> Scan {
    let image = CLEAN.lines().find_map(|line| line.trim().strip_prefix("image: ")).expect("an image");
    let document = serde_json::json!({
        "SchemaVersion": 2, "CreatedAt": "2026-05-01T00:00:00Z", "ArtifactName": image,
        "Metadata": {"RepoDigests": [image]}, "Results": [findings],
    });
    Scan::parse(document.to_string().as_bytes()).expect("a scan")
}

#[test]
fn an_image_is_judged_by_its_scan() {
    let now = Some("2026-05-02T00:00:00Z".parse().expect("a time"));
    let with = |scans: Vec<Scan>| judge(&[CLEAN], &Options { scans, now, ..options() });
    let nothing = with(Vec::new());
    assert_eq!([verdict(&nothing, "IM-06"), verdict(&nothing, "IM-07")], [Verdict::NotClaimed; 2]);
    let exploit = serde_json::json!({"Target": "os", "Vulnerabilities": [{
        "VulnerabilityID": "CVE-2024-3094", "PkgName": "xz", "InstalledVersion": "1", "FixedVersion": "2",
        "Severity": "CRITICAL"}]});
    let bad = with(vec![scan(exploit.clone())]);
    assert_eq!(verdict(&bad, "IM-07"), Verdict::Breached);
    assert!(found(&bad, "IM-07")[0].contains("CVE-2024-3094 in xz 1"), "{:?}", found(&bad, "IM-07"));
    assert_eq!(verdict(&with(vec![scan(serde_json::json!({"Target": "os"}))]), "IM-07"), Verdict::Held);
    // Of another image, or too old: nobody knows.
    let mut other = scan(serde_json::json!({"Target": "os"}));
    other.digests = vec![format!("sha256:{}", "b".repeat(64))];
    assert_eq!(verdict(&with(vec![other]), "IM-07"), Verdict::Unproven);
    let late = Some("2027-05-02T00:00:00Z".parse().expect("a time"));
    let old =
        judge(&[CLEAN], &Options { scans: vec![scan(serde_json::json!({"Target": "os"}))], now: late, ..options() });
    assert_eq!(verdict(&old, "IM-07"), Verdict::Unproven);
    let secret =
        serde_json::json!({"Target": "app/.env", "Secrets": [{"RuleID": "aws-access-key-id", "StartLine": 3}]});
    let bad = with(vec![scan(secret)]);
    assert_eq!(verdict(&bad, "IM-06"), Verdict::Breached);
    assert!(found(&bad, "IM-06")[0].contains("aws-access-key-id in app/.env line 3"));
}

#[test]
fn what_could_not_be_read_is_unknown() {
    let judge_without = |kind: &str, text: &str| {
        let mut snapshot = Snapshot::from_files(vec![File { name: "f".to_owned(), bytes: text.into() }]);
        let reason = format!("this account may not list {kind}");
        snapshot.unread.push(Unread { group: String::new(), kind: kind.to_owned(), reason });
        audit(&mut snapshot, &options())
    };
    let hidden = judge_without("NetworkPolicy", CLEAN);
    assert_eq!((hidden.result, hidden.complete), (Standing::Unknown, false));
    for ruling in hidden.guarantees.iter().filter(|one| one.alias.starts_with("NW-")) {
        let pods_alone = matches!(ruling.alias.as_str(), "NW-19" | "NW-25");
        assert!(ruling.verdict != Verdict::Held || pods_alone, "{}", ruling.alias);
    }
    // Without its policy the cluster is breached; when policies cannot be seen, nobody can say so.
    let without_policy: String =
        CLEAN.split("---\n").filter(|document| !document.contains("NetworkPolicy")).collect::<Vec<_>>().join("---\n");
    assert_eq!(verdict(&judge(&[&without_policy], &options()), "NS-08"), Verdict::Breached);
    let hidden = judge_without("NetworkPolicy", &without_policy);
    assert_eq!(verdict(&hidden, "NS-08"), Verdict::Unproven);
    assert!(hidden.findings.iter().all(|one| one.alias != "NS-08" || one.verdict == Verdict::Unproven));
    assert_eq!(verdict(&hidden, "CT-04"), Verdict::Held, "pods were read");
}

#[test]
fn an_admission_policy_takes_the_certainty_from_a_missing_wall() {
    // Refuses everything that is tried.
    let policy = "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingAdmissionPolicy\nmetadata: {name: restricted}\nspec:\n  failurePolicy: Fail\n  matchConstraints: {resourceRules: [{apiGroups: [''], apiVersions: [v1], operations: [CREATE], resources: [pods]}]}\n  validations: [{expression: 'false', message: no pods}]\n---\napiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingAdmissionPolicyBinding\nmetadata: {name: tenants}\nspec:\n  policyName: restricted\n  validationActions: [Deny]\n  matchResources: {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: tenant-ada}}}\n";
    let open = CLEAN.replace("enforce: restricted", "enforce: privileged");
    let with = |policy: &str| judge(&[&open, policy], &options());
    assert_eq!(verdict(&judge(&[&open], &options()), "NS-07"), Verdict::Breached);
    let refused = with(policy);
    assert_eq!(verdict(&refused, "NS-07"), Verdict::Unproven);
    let finding = refused.findings.iter().find(|one| one.alias == "NS-07").expect("a finding");
    let who = finding.refused.as_deref().unwrap_or_default();
    assert!(who.contains("ValidatingAdmissionPolicy restricted (") && who.contains("no pods"), "{who}");
    assert!(finding.claim().starts_with("would, if admission did not refuse it,"));
    // What cannot be evaluated leaves it open, and is never a refusal.
    for expression in ["quantity('1') == quantity('1')", "request.userInfo.username == 'x'"] {
        let report = with(&policy.replace("'false'", &format!("\"{expression}\"")));
        let finding = report.findings.iter().find(|one| one.alias == "NS-07").expect("a finding");
        assert_eq!((finding.verdict, finding.refused.is_none()), (Verdict::Unproven, true), "{expression}");
    }
    // Each part that keeps it from standing there: the breach is back.
    for (part, instead) in [
        ("[Deny]", "[Warn, Audit]"),
        ("metadata.name: tenant-ada", "metadata.name: tenant-bo"),
        ("policyName: restricted", "policyName: absent"),
        ("resources: [pods]", "resources: [services]"),
        ("operations: [CREATE]", "operations: [UPDATE]"),
        ("validations: [{expression: 'false', message: no pods}]", "validations: []"),
        ("matchConstraints: {", "matchConstraints: {objectSelector: {matchLabels: {a: b}}, "),
        // Only some of the pods below restricted are refused.
        ("expression: 'false'", "expression: '!has(object.spec.hostNetwork)'"),
        ("expression: 'false'", "expression: 'true'"),
    ] {
        assert!(policy.contains(part), "{part}");
        assert_eq!(verdict(&with(&policy.replace(part, instead)), "NS-07"), Verdict::Breached, "{instead}");
    }
}

#[test]
fn a_pod_that_admission_refuses_is_told_as_refused() {
    let open = CLEAN.replacen("allowPrivilegeEscalation: false", "privileged: true", 1);
    assert_ne!(open, CLEAN);
    let policy = |expression: &str| {
        format!(
            "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingAdmissionPolicy\nmetadata: {{name: walls}}\nspec:\n  matchConstraints: {{resourceRules: [{{apiGroups: [''], apiVersions: [v1], operations: [CREATE], resources: [pods]}}]}}\n  validations: [{{expression: \"{expression}\", message: no privileges}}]\n---\napiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingAdmissionPolicyBinding\nmetadata: {{name: walls}}\nspec: {{policyName: walls, validationActions: [Deny]}}\n"
        )
    };
    let found = |text: &str, expression: &str| {
        let report = judge(&[text, &policy(expression)], &options());
        let finding = report.findings.iter().find(|one| one.alias == "CT-25").expect("a finding").clone();
        (finding.verdict, finding.refused)
    };
    let no_privileges = "object.spec.containers.all(c, !c.?securityContext.?privileged.orValue(false))";
    let (verdict, refused) = found(&open, no_privileges);
    assert_eq!(verdict, Verdict::Unproven);
    assert!(refused.is_some_and(|text| text.contains("no privileges")));
    // A policy that lets it pass, or that hangs on who makes the pod, takes nothing from the breach.
    for expression in ["object.metadata.name != 'x'", "request.userInfo.username == 'x'"] {
        assert_eq!(found(&open, expression), (Verdict::Breached, None), "{expression}");
    }
    assert_eq!(found(&open, "quantity('1') == quantity('1')"), (Verdict::Unproven, None));
    // A pod that is there already was admitted.
    let running = open.replace("kind: Pod\nmetadata:", "kind: Pod\nstatus: {phase: Running}\nmetadata:");
    assert_ne!(running, open);
    assert_eq!(found(&running, no_privileges), (Verdict::Breached, None));
}

#[test]
fn each_cause_of_a_container_is_a_finding_of_its_own() {
    let open = CLEAN.replacen("allowPrivilegeEscalation: false", "privileged: true", 1).replacen(
        "capabilities: {drop: [ALL]}",
        "capabilities: {add: [SYS_PTRACE, NET_ADMIN]}",
        1,
    );
    assert!(open.contains("SYS_PTRACE"));
    let report = judge(&[&open], &options());
    let causes: Vec<&str> =
        report.findings.iter().filter(|one| one.alias == "CT-04").map(|one| one.sentence.as_str()).collect();
    assert_eq!(causes.len(), 3, "{causes:?}");
    for part in ["is privileged", "capabilities NET_ADMIN, SYS_PTRACE", "by default"] {
        assert!(causes.iter().any(|one| one.contains(part)), "{part}: {causes:?}");
    }
    // The smallest change of each takes that finding away and leaves the others.
    for finding in report.findings.iter().filter(|one| one.alias == "CT-04") {
        let Some(cubicle_audit::verdict::Fix::Patch { operations, .. }) = &finding.fix else { panic!("a patch") };
        assert_eq!(operations.len(), 1, "{}", finding.sentence);
    }
}

#[test]
fn broken_pods_are_no_reason_to_fail_where_policies_are_in_force() {
    let policy = "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingAdmissionPolicy\nmetadata: {name: walls}\nspec:\n  matchConstraints: {resourceRules: [{apiGroups: ['*'], apiVersions: ['*'], operations: ['*'], resources: ['*/*']}]}\n  variables: [{name: x}, {name: y, expression: 3}, text]\n  validations: [{expression: 'false'}, {}, text]\n---\napiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingAdmissionPolicyBinding\nmetadata: {name: walls}\nspec: {policyName: walls, validationActions: [Deny]}\n";
    for pod in [
        "kind: Pod\napiVersion: v1\nmetadata: {name: x}\nspec: text\n",
        "kind: Pod\napiVersion: v1\nmetadata: {name: x}\nspec: {containers: []}\n",
        "kind: Pod\napiVersion: v1\nmetadata: {name: x}\nspec: {containers: [text], volumes: text}\n",
        "kind: Pod\napiVersion: v1\nmetadata: {name: x}\nspec: {containers: {a: b}}\n",
        "kind: Pod\napiVersion: v1\nmetadata: {name: x, labels: text}\nspec: {containers: [{name: c, securityContext: text, resources: text, ports: text}]}\n",
        "kind: Deployment\napiVersion: apps/v1\nmetadata: {name: x}\nspec: {template: text}\n",
        "kind: Deployment\napiVersion: apps/v1\nmetadata: {name: x}\nspec: {template: {metadata: text, spec: {containers: [{name: c}]}}}\n",
        "kind: Job\napiVersion: batch/v1\nmetadata: {name: x}\nspec: {template: {metadata: null, spec: null}}\n",
    ] {
        let file = |text: &str| File { name: "f".to_owned(), bytes: text.as_bytes().to_vec() };
        let mut snapshot = Snapshot::from_files(vec![file(&format!("{policy}---\n{pod}"))]);
        let report = audit(&mut snapshot, &options());
        assert_ne!(report.result, Standing::Clean, "{pod}");
    }
}
