use std::collections::BTreeMap;

use cubicle_core::level::{Level, Namespace};
use cubicle_core::template::{Egress, EgressMode};
use cubicle_core::workspace::Owner;

use super::*;
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

fn with(change: impl FnOnce(&mut Settings, &mut Template)) -> (Result<Tenant, Problem>, Result<Built, Problem>) {
    let (mut settings, mut template) = (settings(), template());
    change(&mut settings, &mut template);
    let identity = identity();
    let location = Location::of(settings.tenancy, &identity);
    let request = request(&settings, &identity, &location, &template);
    (tenant(&request), workspace(&request))
}

#[test]
fn the_objects_of_a_tenant_are_known() {
    insta::assert_json_snapshot!(with(|_, _| {}).0.expect("made"));
}

#[test]
fn the_objects_of_a_workspace_are_known() {
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
        let built = with(|_, template| template.spec.level = level).1.expect("made");
        let pod = built.pod.spec.expect("has a spec");
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
        let owners = built.pod.metadata.owner_references.expect("has an owner");
        assert!(owners.iter().all(|owner| owner.kind == "Workspace" && owner.controller == Some(true)));
    }
}

#[test]
fn neither_namespace_nor_home_has_an_owner() {
    let tenant = with(|_, _| {}).0.expect("made");
    assert!(tenant.namespace.metadata.owner_references.is_none());
    assert!(tenant.home.metadata.owner_references.is_none());
    assert!(tenant.deny.metadata.owner_references.is_none());
}

#[test]
fn the_ways_out_are_those_of_the_mode() {
    let egress = |level, mode| {
        let built = with(|_, template| {
            template.spec.level = level;
            template.spec.egress = Some(Egress { mode, allow: Vec::new() });
        });
        let built = built.1.expect("made");
        let dns = built.pod.spec.expect("spec").dns_policy.expect("set");
        (serde_json::to_value(built.doors.spec.expect("spec").egress).expect("json"), dns)
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
fn the_api_servers_public_address_is_no_public_host() {
    let built = with(|settings, _| settings.denied = vec!["203.0.114.7/32".parse().expect("valid")]).1.expect("made");
    assert!(serde_json::to_string(&built.doors).expect("json").contains("203.0.114.7/32"));
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
