//! The corners of the standard that are easy to get wrong.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn checks(pod: &Value, level: Level, minor: u16) -> Vec<&'static str> {
    let mut checks: Vec<_> = violations(pod, level, Version::minor(minor))
        .map(|found| found.into_iter().map(|one| one.check).collect())
        .unwrap_or_else(|problem| panic!("{problem}"));
    checks.dedup();
    checks
}

/// A pod that the newest `restricted` admits, changed at one place.
fn hardened(pointer: &str, value: Value) -> Value {
    let mut pod = json!({"spec": {
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "a", "securityContext": {
            "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}],
    }});
    set(&mut pod, pointer, value);
    pod
}

fn set(pod: &mut Value, pointer: &str, value: Value) {
    let mut at = pod;
    for part in pointer.split('/').skip(1) {
        at = match part.parse::<usize>() {
            Ok(index) => &mut at[index],
            Err(_) => &mut at[part],
        };
    }
    *at = value;
}

#[test]
fn a_hardened_pod_passes_every_version() {
    let pod = hardened("/metadata/name", json!("a"));
    for minor in 0..=NEWEST {
        assert!(checks(&pod, Level::Restricted, minor).is_empty(), "v1.{minor}");
    }
}

#[test]
fn root_is_admitted_in_a_user_namespace_since_1_35() {
    let mut pod = hardened("/spec/securityContext/runAsUser", json!(0));
    assert_eq!(checks(&pod, Level::Restricted, 37), ["runAsUser"]);
    set(&mut pod, "/spec/hostUsers", json!(false));
    assert_eq!(checks(&pod, Level::Restricted, 34), ["runAsUser"]);
    assert!(checks(&pod, Level::Restricted, 35).is_empty());
}

#[test]
fn an_unmasked_proc_is_baseline_in_a_user_namespace_and_never_restricted() {
    let mut pod = hardened("/spec/containers/0/securityContext/procMount", json!("Unmasked"));
    assert_eq!(checks(&pod, Level::Baseline, 37), ["procMount"]);
    assert_eq!(checks(&pod, Level::Restricted, 37), ["procMount_restricted"]);
    assert_eq!(checks(&pod, Level::Restricted, 34), ["procMount"]);
    set(&mut pod, "/spec/hostUsers", json!(false));
    assert!(checks(&pod, Level::Baseline, 35).is_empty());
    assert_eq!(checks(&pod, Level::Restricted, 35), ["procMount_restricted"]);
}

#[test]
fn windows_is_spared_what_it_does_not_have_since_1_25() {
    let pod = json!({"spec": {
        "os": {"name": "windows"},
        "securityContext": {"runAsNonRoot": true},
        "containers": [{"name": "a"}],
    }});
    assert!(checks(&pod, Level::Restricted, 25).is_empty());
    assert_eq!(checks(&pod, Level::Restricted, 24).len(), 3);
}

#[test]
fn a_context_without_a_type_is_no_profile() {
    let pod = hardened("/spec/securityContext/seccompProfile", json!({}));
    assert_eq!(checks(&pod, Level::Restricted, 30), ["seccompProfile_restricted"]);
    let pod = hardened("/spec/securityContext/appArmorProfile", json!({}));
    assert_eq!(checks(&pod, Level::Baseline, 0), ["appArmorProfile"]);
}

#[test]
fn ephemeral_containers_count() {
    let debug = json!([{"name": "debug", "securityContext": {"privileged": true}}]);
    let pod = hardened("/spec/ephemeralContainers", debug);
    assert!(checks(&pod, Level::Baseline, 37).contains(&"privileged"));
}

#[test]
fn a_null_is_an_absent_field() {
    let pod = hardened("/spec/containers/0/securityContext/procMount", Value::Null);
    assert!(checks(&pod, Level::Restricted, 37).is_empty());
}

#[test]
fn a_field_of_the_wrong_type_is_an_error_and_not_absent() {
    for (pointer, value) in [
        ("/spec/hostNetwork", json!("true")),
        ("/spec/containers/0/securityContext/privileged", json!("yes")),
        ("/spec/containers", json!({})),
        ("/spec/securityContext/runAsUser", json!("0")),
    ] {
        let result = violations(&hardened(pointer, value), Level::Baseline, Version::LATEST);
        assert!(result.is_err(), "{pointer}");
    }
    assert!(violations(&json!({}), Level::Privileged, Version::LATEST).is_err());
}

proptest! {
    /// Restricted is stricter than baseline in every version, except for a pod of Windows, whose
    /// capabilities the API server refuses elsewhere.
    #[test]
    fn what_restricted_admits_baseline_admits(
        minor in 0..=NEWEST,
        privileged: bool,
        host_users: bool,
        proc_mount in prop::sample::select(&["Default", "Unmasked"][..]),
        seccomp in prop::sample::select(&["RuntimeDefault", "Localhost", "Unconfined", ""][..]),
        capability in prop::sample::select(&["NET_BIND_SERVICE", "NET_RAW", "CHOWN"][..]),
        volume in prop::sample::select(&["hostPath", "emptyDir", "nfs"][..]),
        selinux in prop::sample::select(&["", "container_t", "container_engine_t", "spc_t"][..]),
    ) {
        let mut pod = hardened("/spec/hostUsers", json!(host_users));
        let context = "/spec/containers/0/securityContext";
        set(&mut pod, &format!("{context}/privileged"), json!(privileged));
        set(&mut pod, &format!("{context}/procMount"), json!(proc_mount));
        set(&mut pod, &format!("{context}/seccompProfile"), json!({"type": seccomp}));
        set(&mut pod, &format!("{context}/seLinuxOptions"), json!({"type": selinux}));
        set(&mut pod, &format!("{context}/capabilities/add"), json!([capability]));
        set(&mut pod, "/spec/volumes", json!([{"name": "v", volume: {}}]));
        if checks(&pod, Level::Restricted, minor).is_empty() {
            prop_assert!(checks(&pod, Level::Baseline, minor).is_empty());
        }
    }

    /// Every violation points into the pod, or at a field below a part of it.
    #[test]
    fn pointers_lead_somewhere(minor in 0..=NEWEST, privileged: bool) {
        let pod = json!({"spec": {
            "hostPID": true,
            "containers": [{"name": "a", "securityContext": {"privileged": privileged}}],
            "volumes": [{"name": "v", "hostPath": {"path": "/"}}],
        }});
        for one in violations(&pod, Level::Restricted, Version::minor(minor)).unwrap_or_default() {
            let parts: Vec<&str> = one.pointer.split('/').collect();
            let start = parts[..4.min(parts.len())].join("/");
            prop_assert!(pod.pointer(&start).is_some() || pod.pointer(&one.pointer).is_some(), "{}", one.pointer);
        }
    }
}
