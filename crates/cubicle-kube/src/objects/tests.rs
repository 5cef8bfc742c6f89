use std::collections::BTreeMap;

use cubicle_core::level::{Level, Namespace};
use cubicle_core::template::{Egress, EgressMode};
use cubicle_core::workspace::Owner;

use super::*;
use crate::names::DOORS;
use crate::resources::Template as TemplateResource;
use crate::settings::is_pinned;

const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

pub(crate) fn settings() -> Settings {
    let text = format!(
        "probeImage: cubicle.local/probe@{DIGEST}\nimages:\n  jupyterlab:\n    reference: cubicle.local/jupyterlab@{DIGEST}\n    command: [/usr/local/bin/start-notebook]\ndatasets:\n  census: cubicle.local/census@{DIGEST}\n"
    );
    Settings::parse(&text).expect("valid settings")
}

pub(crate) fn template() -> Template {
    let custom: TemplateResource =
        serde_json::from_str(include_str!("../../../cubicle-local/src/default_template.json")).expect("reads");
    custom.document().expect("valid")
}

pub(crate) fn identity() -> Identity {
    Identity {
        id: "w-0123456789ab".parse().expect("valid"),
        owner: Owner { id: "u-ba9876543210".parse().expect("valid"), name: "alice".parse().expect("valid") },
        template: "jupyterlab".parse().expect("valid"),
        team: None,
    }
}

pub(crate) fn request<'a>(
    settings: &'a Settings,
    identity: &'a Identity,
    location: &'a Location,
    template: &'a Template,
) -> Request<'a> {
    Request {
        settings,
        identity,
        location,
        member: false,
        uid: "0f5ba0f2-0000-4000-8000-000000000000",
        launch: 3,
        template,
        gate_key: [7; 32],
        window: &[],
    }
}

fn with(change: impl FnOnce(&mut Settings, &mut Template)) -> (Result<Tenant, Problem>, Result<Pod, Problem>) {
    let (mut settings, mut template) = (settings(), template());
    change(&mut settings, &mut template);
    let identity = identity();
    let location = Location::of(settings.tenancy, &identity);
    let request = request(&settings, &identity, &location, &template);
    (tenant(&request), super::pod(&request))
}

#[test]
fn the_objects_of_a_tenant_are_known() {
    insta::assert_json_snapshot!(with(|_, _| {}).0.expect("made"));
}

#[test]
fn the_pod_of_a_workspace_is_known() {
    insta::assert_json_snapshot!(with(|_, _| {}).1.expect("made"));
}

#[test]
fn a_misspelt_wall_is_refused() {
    let manifest = serde_json::json!({"spec": {"containers": [{"name": "x", "securityContext": {"readOnlyRootFileSystem": true}}]}});
    let problem = typed::<Pod>(manifest).expect_err("refused");
    assert!(problem.what.contains("readOnlyRootFileSystem"), "{}", problem.what);
}

#[test]
fn what_the_catalogue_asks_of_a_pod_is_there() {
    for level in [Level::Basic, Level::Standard, Level::Strict] {
        let made = with(|_, template| template.spec.level = level).1.expect("made");
        let pod = made.spec.expect("has a spec");
        assert_eq!(pod.host_users, Some(level == Level::Basic), "{level}");
        assert_eq!(pod.automount_service_account_token, Some(false));
        assert_eq!(pod.enable_service_links, Some(false));
        assert!(pod.init_containers.is_none() && pod.ephemeral_containers.is_none() && pod.containers.len() == 1);
        assert!(pod.host_network.is_none() && pod.host_pid.is_none() && pod.host_ipc.is_none());
        let context = pod.containers[0].security_context.as_ref().expect("has a context");
        assert_eq!(context.read_only_root_filesystem, Some(true));
        assert_eq!(context.allow_privilege_escalation, Some(false));
        assert_eq!(context.capabilities.as_ref().and_then(|sets| sets.drop.clone()), Some(vec!["ALL".to_owned()]));
        assert!(context.capabilities.as_ref().is_some_and(|sets| sets.add.is_none()));
        assert!(pod.containers[0].env.is_none() && pod.containers[0].ports.is_none());
        assert!(is_pinned(pod.containers[0].image.as_deref().unwrap_or_default()));
        let volumes = serde_json::to_value(&pod.volumes).expect("json").to_string();
        assert!(!volumes.contains("hostPath") && !volumes.contains("projected") && !volumes.contains("secret"));
        let owners = made.metadata.owner_references.expect("has an owner");
        assert!(owners.iter().all(|owner| owner.kind == "Workspace" && owner.controller == Some(true)));
    }
}

#[test]
fn nothing_of_the_tenants_has_an_owner() {
    let tenant = with(|_, _| {}).0.expect("made");
    assert!(tenant.namespace.metadata.owner_references.is_none());
    assert!(tenant.home.metadata.owner_references.is_none());
    assert!(tenant.account.metadata.owner_references.is_none());
    for policy in [tenant.deny, tenant.doors] {
        assert!(policy.metadata.owner_references.is_none());
    }
}

#[test]
fn the_ways_out_are_those_of_the_mode() {
    let egress = |level, mode| {
        let (tenant, pod) = with(|_, template| {
            template.spec.level = level;
            template.spec.egress = Some(Egress { mode, allow: Vec::new() });
        });
        let dns = pod.expect("made").spec.expect("spec").dns_policy.expect("set");
        (serde_json::to_value(tenant.expect("made").doors.spec.expect("spec").egress).expect("json"), dns)
    };
    let (walled, dns) = egress(Level::Standard, EgressMode::Walled);
    assert_eq!((walled.as_array().map(Vec::len), dns.as_str()), (Some(2), "ClusterFirst"));
    for private in
        ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "168.63.129.16/32"]
    {
        assert!(walled.to_string().contains(private), "{private}");
    }
    let (listed, dns) = egress(Level::Strict, EgressMode::AllowList);
    assert!(listed.to_string().contains("cubicle-egress") && !listed.to_string().contains("ipBlock"));
    assert_eq!(dns, "None");
    let (none, dns) = egress(Level::Standard, EgressMode::None);
    assert!(none.as_array().is_none_or(Vec::is_empty), "{none}");
    assert_eq!(dns, "None");
}

#[test]
fn workspaces_with_the_same_doors_have_one_policy() {
    let doors = |id: &str, change: fn(&mut Settings, &mut Template)| {
        let (mut settings, mut template) = (settings(), template());
        change(&mut settings, &mut template);
        let identity = Identity { id: id.parse().expect("valid"), ..identity() };
        let location = Location::of(settings.tenancy, &identity);
        let request = request(&settings, &identity, &location, &template);
        let (tenant, pod) = (tenant(&request).expect("made"), super::pod(&request).expect("made"));
        let spec = tenant.doors.spec.expect("spec");
        let selected = spec.pod_selector.and_then(|selector| selector.match_labels).expect("by label");
        let name = tenant.doors.metadata.name.expect("named");
        assert_eq!(selected, BTreeMap::from([(DOORS.to_owned(), name.clone())]));
        assert_eq!(pod.metadata.labels.expect("labelled").get(DOORS), Some(&name));
        name
    };
    let one = doors("w-0123456789ab", |_, _| {});
    assert_eq!(doors("w-ba9876543210", |_, _| {}), one, "whoever it is");
    // Any other door is another policy, and leaves this one as it is.
    let all = std::collections::BTreeSet::from([
        one,
        doors("w-0123456789ab", |_, template| template.spec.port += 1),
        doors("w-0123456789ab", |_, template| {
            template.spec.egress = Some(Egress { mode: EgressMode::None, allow: Vec::new() });
        }),
        doors("w-0123456789ab", |settings, _| settings.denied = vec!["203.0.114.7/32".parse().expect("valid")]),
        doors("w-0123456789ab", |settings, _| settings.system_namespace = "elsewhere".to_owned()),
    ]);
    assert_eq!(all.len(), 5, "{all:?}");
}

#[test]
fn a_twin_has_the_doors_that_its_pod_was_made_with() {
    let (settings, identity, template) = (settings(), identity(), template());
    let location = Location::of(settings.tenancy, &identity);
    let mut request = request(&settings, &identity, &location, &template);
    let mut pod = super::pod(&request).expect("made");
    pod.spec.get_or_insert_default().node_name = Some("node-2".to_owned());
    let later = Settings { system_namespace: "elsewhere".to_owned(), ..settings.clone() };
    request.settings = &later;
    let twin = super::twin(&request, &pod).expect("made");
    assert_eq!(twin.metadata.labels, pod.metadata.labels);
    // One that was made by an earlier Cubicle: its account is its own, and it names no doors.
    let mut earlier = pod.clone();
    earlier.metadata.labels.get_or_insert_default().remove(DOORS);
    earlier.spec.get_or_insert_default().service_account_name = Some("w-0123456789ab".to_owned());
    let theirs = super::twin(&request, &earlier).expect("made");
    assert_eq!(theirs.metadata.labels, earlier.metadata.labels);
    assert_eq!(theirs.spec.and_then(|spec| spec.service_account_name).as_deref(), Some("w-0123456789ab"));
    assert_ne!(super::pod(&request).expect("made").metadata.labels, pod.metadata.labels, "a new one has others");
    assert!(serde_json::to_string(&twin.spec).expect("json").contains("node-2"));
}

#[test]
fn the_api_servers_public_address_is_no_public_host() {
    let tenant = with(|settings, _| settings.denied = vec!["203.0.114.7/32".parse().expect("valid")]).0.expect("made");
    assert!(serde_json::to_string(&tenant.doors).expect("json").contains("203.0.114.7/32"));
}

#[test]
fn the_three_modes_of_tenancy_share_what_they_say() {
    let name = |tenancy, level| {
        let (tenant, built) = with(|settings, template| {
            settings.tenancy = tenancy;
            template.spec.level = level;
        });
        (tenant.expect("made").namespace.metadata.name.expect("named"), built)
    };
    let (shared, built) = name(Namespace::Shared, Level::Standard);
    assert_eq!(shared, "cubicle-shared");
    assert!(built.expect_err("refused").what.contains("promises a namespace per user"));
    assert!(name(Namespace::PerTeam, Level::Basic).1.is_ok());
    assert_eq!(name(Namespace::PerUser, Level::Standard).0, "cubicle-u-ba9876543210");
}

#[test]
fn what_the_cluster_cannot_give_is_refused_with_the_field() {
    let what = |change: fn(&mut Settings, &mut Template)| with(change).1.expect_err("refused").what;
    assert!(what(|_, template| template.spec.level = Level::Sandboxed).contains("level sandboxed"));
    assert!(what(|_, template| template.spec.image = "debian:latest".to_owned()).contains("spec.image"));
    assert!(what(|_, template| template.spec.resources.memory.0 = 1 << 40).contains("spec.resources.memory"));
    assert!(what(|settings, _| settings.images = BTreeMap::new()).contains("spec.image"));
    assert!(Settings::parse("probeImage: probe:latest").expect_err("refused").what.contains("has no digest"));
    assert!(Settings::parse("probeImage: x\nteanncy: shared").is_err());
}

#[test]
fn an_image_is_judged_by_the_digest_of_its_reference() {
    use cubicle_core::report::Verdict;
    use cubicle_core::scan::{Scan, Severity};

    let scan = |digest: &str, severity: &str| {
        let document = serde_json::json!({
            "SchemaVersion": 2, "CreatedAt": jiff::Timestamp::now(), "ArtifactName": "jupyterlab",
            "Metadata": {"RepoDigests": [format!("registry.example/jupyterlab@{digest}")]},
            "Results": [{"Target": "os", "Vulnerabilities": [{
                "VulnerabilityID": "CVE-2024-3094", "PkgName": "xz", "InstalledVersion": "1", "FixedVersion": "2",
                "Severity": severity}]}],
        });
        Some(Scan::parse(document.to_string().as_bytes()).expect("a scan"))
    };
    let judged = |scan: Option<Scan>, required: bool, refuse: Severity| {
        let (mut settings, mut template) = (settings(), template());
        settings.image_scan.required = required;
        settings.image_scan.refuse = refuse;
        template.spec.scan = scan;
        // What a custom resource holds is what the rule sees.
        let resource = TemplateResource::from_document(&template).expect("a resource");
        let judged = settings.judge_image(&resource.document().expect("valid")).expect("the image is listed");
        (judged.verdict, judged.opens)
    };
    assert_eq!(judged(scan(DIGEST, "CRITICAL"), false, Severity::Critical), (Verdict::Breached, false));
    assert_eq!(judged(scan(DIGEST, "HIGH"), true, Severity::Critical), (Verdict::Held, true));
    assert_eq!(judged(scan(DIGEST, "HIGH"), true, Severity::High), (Verdict::Breached, false));
    let other = format!("sha256:{}", "b".repeat(64));
    assert_eq!(judged(scan(&other, "LOW"), true, Severity::High), (Verdict::Unproven, false));
    assert_eq!(judged(scan(&other, "LOW"), false, Severity::High), (Verdict::Unproven, true));
    assert_eq!(judged(None, true, Severity::High), (Verdict::Unproven, false));
    assert_eq!(judged(None, false, Severity::High), (Verdict::NotClaimed, true));
}
