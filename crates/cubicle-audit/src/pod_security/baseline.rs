//! The checks of level `baseline`.

use serde_json::Value;

use super::pod::{Container, Pod, deep, list, member, text};
use super::version::Version;
use super::{Level, Violation};

/// Capabilities that a container has anyway or that reach nothing beyond it.
const CAPABILITIES: &[&str] = &[
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// Kernel parameters that belong to the pod alone, and since which version they are admitted.
const SYSCTLS: &[(&str, u16)] = &[
    ("kernel.shm_rmid_forced", 0),
    ("net.ipv4.ip_local_port_range", 0),
    ("net.ipv4.tcp_syncookies", 0),
    ("net.ipv4.ping_group_range", 0),
    ("net.ipv4.ip_unprivileged_port_start", 0),
    ("net.ipv4.ip_local_reserved_ports", 27),
    ("net.ipv4.tcp_keepalive_time", 29),
    ("net.ipv4.tcp_fin_timeout", 29),
    ("net.ipv4.tcp_keepalive_intvl", 29),
    ("net.ipv4.tcp_keepalive_probes", 29),
    ("net.ipv4.tcp_rmem", 32),
    ("net.ipv4.tcp_wmem", 32),
    ("net.ipv4.tcp_slow_start_after_idle", 37),
    ("net.ipv4.tcp_notsent_lowat", 37),
];

/// SELinux types that are as confined as the default one, and since when they are admitted.
const SELINUX_TYPES: &[(&str, u16)] =
    &[("", 0), ("container_t", 0), ("container_init_t", 0), ("container_kvm_t", 0), ("container_engine_t", 31)];

const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
const APPARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

/// Runs the checks. `level` is the level that is asked for: `restricted` replaces some of these
/// by stricter ones of its own.
pub(super) fn check(pod: &Pod<'_>, level: Level, version: Version, found: &mut Vec<Violation>) {
    let restricted = level == Level::Restricted;
    host_namespaces(pod, found);
    windows_host_process(pod, found);
    containers(pod, version, found);
    if !(restricted && version.at_least(22)) {
        capabilities(pod, found);
    }
    if !restricted {
        host_paths(pod, found);
    }
    // From 1.35 `restricted` asks for masked /proc without the exception for user namespaces.
    if !(restricted || version.at_least(35) && pod.has_user_namespace()) || restricted && !version.at_least(35) {
        proc_mount(pod, Level::Baseline, found);
    }
    apparmor(pod, found);
    selinux(pod, version, found);
    if version.at_least(19) {
        if !restricted {
            seccomp_fields(pod, found);
        }
    } else {
        seccomp_annotations(pod, found);
    }
    sysctls(pod, version, found);
}

fn add(found: &mut Vec<Violation>, check: &'static str, pointer: String, what: String) {
    found.push(Violation { check, level: Level::Baseline, pointer, what });
}

fn host_namespaces(pod: &Pod<'_>, found: &mut Vec<Violation>) {
    for name in ["hostNetwork", "hostPID", "hostIPC"] {
        if deep(pod.spec(), &[name]) == Some(&Value::Bool(true)) {
            add(found, "hostNamespaces", format!("/spec/{name}"), format!("the pod sets {name}"));
        }
    }
}

/// The pod's security context and every container's, with a name for people and a pointer.
pub(super) fn contexts<'a>(pod: &Pod<'a>) -> Vec<(String, String, &'a Value)> {
    let own = pod.security().map(|context| ("the pod".to_owned(), "/spec/securityContext".to_owned(), context));
    let inner = pod.containers().filter_map(|container| {
        let pointer = format!("{}/securityContext", container.pointer());
        Some((format!("container {}", container.name()), pointer, container.security()?))
    });
    own.into_iter().chain(inner).collect()
}

fn windows_host_process(pod: &Pod<'_>, found: &mut Vec<Violation>) {
    for (who, at, context) in contexts(pod) {
        if deep(context, &["windowsOptions", "hostProcess"]) == Some(&Value::Bool(true)) {
            let what = format!("{who} sets windowsOptions.hostProcess");
            add(found, "windowsHostProcess", format!("{at}/windowsOptions/hostProcess"), what);
        }
    }
}

fn containers(pod: &Pod<'_>, version: Version, found: &mut Vec<Violation>) {
    for container in pod.containers() {
        let (name, at) = (container.name(), container.pointer());
        if container.security().and_then(|context| member(context, "privileged")) == Some(&Value::Bool(true)) {
            let what = format!("container {name} sets privileged");
            add(found, "privileged", format!("{at}/securityContext/privileged"), what);
        }
        for (index, port) in list(container.value, &["ports"]).iter().enumerate() {
            let number = member(port, "hostPort").and_then(Value::as_i64).unwrap_or_default();
            if number != 0 {
                let what = format!("container {name} uses host port {number}");
                add(found, "hostPorts", format!("{at}/ports/{index}/hostPort"), what);
            }
        }
        if version.at_least(34) {
            hosts(&container, found);
        }
    }
}

/// Probes and lifecycle hooks run from the node: a host of their own lets a pod reach through it.
fn hosts(container: &Container<'_>, found: &mut Vec<Violation>) {
    let handlers: [&[&str]; 5] = [
        &["livenessProbe"],
        &["readinessProbe"],
        &["startupProbe"],
        &["lifecycle", "postStart"],
        &["lifecycle", "preStop"],
    ];
    for path in handlers {
        let Some(handler) = deep(container.value, path) else { continue };
        for action in ["httpGet", "tcpSocket"] {
            let host = text(handler, &[action, "host"]);
            if !host.is_empty() {
                let field = format!("{}.{action}.host", path.join("."));
                let pointer = format!("{}/{}", container.pointer(), field.replace('.', "/"));
                let what = format!("container {} sets {field} to {host}", container.name());
                add(found, "hostProbesAndHostLifecycle", pointer, what);
            }
        }
    }
}

fn capabilities(pod: &Pod<'_>, found: &mut Vec<Violation>) {
    for container in pod.containers() {
        let Some(context) = container.security() else { continue };
        for (index, added) in list(context, &["capabilities", "add"]).iter().enumerate() {
            let name = added.as_str().unwrap_or_default();
            if !CAPABILITIES.contains(&name) {
                let pointer = format!("{}/securityContext/capabilities/add/{index}", container.pointer());
                let what = format!("container {} adds the capability {name}", container.name());
                add(found, "capabilities_baseline", pointer, what);
            }
        }
    }
}

fn host_paths(pod: &Pod<'_>, found: &mut Vec<Violation>) {
    for (index, volume) in list(pod.spec(), &["volumes"]).iter().enumerate() {
        if let Some(source) = member(volume, "hostPath") {
            let what = format!("volume {} is the host's {}", text(volume, &["name"]), text(source, &["path"]));
            add(found, "hostPathVolumes", format!("/spec/volumes/{index}/hostPath"), what);
        }
    }
}

/// Anything but the default masks over /proc.
pub(super) fn proc_mount(pod: &Pod<'_>, level: Level, found: &mut Vec<Violation>) {
    for container in pod.containers() {
        let Some(value) = container.security().and_then(|context| member(context, "procMount")) else { continue };
        if value != "Default" {
            found.push(Violation {
                check: if level == Level::Baseline { "procMount" } else { "procMount_restricted" },
                level,
                pointer: format!("{}/securityContext/procMount", container.pointer()),
                what: format!(
                    "container {} sets procMount to {}",
                    container.name(),
                    value.as_str().unwrap_or_default()
                ),
            });
        }
    }
}

fn apparmor(pod: &Pod<'_>, found: &mut Vec<Violation>) {
    for (who, at, context) in contexts(pod) {
        let Some(profile) = member(context, "appArmorProfile") else { continue };
        let kind = text(profile, &["type"]);
        if !matches!(kind, "RuntimeDefault" | "Localhost") {
            let what = format!("{who} sets appArmorProfile.type to \"{kind}\"");
            add(found, "appArmorProfile", format!("{at}/appArmorProfile/type"), what);
        }
    }
    for (key, value) in pod.annotations().filter(|(key, _)| key.starts_with(APPARMOR)) {
        if !(value.is_empty() || value == "runtime/default" || value.starts_with("localhost/")) {
            let what = format!("the annotation {key} is \"{value}\"");
            add(found, "appArmorProfile", annotation_pointer(key), what);
        }
    }
}

fn annotation_pointer(key: &str) -> String {
    format!("/metadata/annotations/{}", key.replace('~', "~0").replace('/', "~1"))
}

fn selinux(pod: &Pod<'_>, version: Version, found: &mut Vec<Violation>) {
    for (who, at, context) in contexts(pod) {
        let Some(options) = member(context, "seLinuxOptions") else { continue };
        let kind = text(options, &["type"]);
        if !SELINUX_TYPES.iter().any(|(allowed, since)| *allowed == kind && version.at_least(*since)) {
            let what = format!("{who} sets seLinuxOptions.type to {kind}");
            add(found, "seLinuxOptions", format!("{at}/seLinuxOptions/type"), what);
        }
        for name in ["user", "role"] {
            if !text(options, &[name]).is_empty() {
                let what = format!("{who} sets seLinuxOptions.{name}");
                add(found, "seLinuxOptions", format!("{at}/seLinuxOptions/{name}"), what);
            }
        }
    }
}

/// Whether a type of seccomp profile is a filter.
pub(super) fn is_filter(context: &Value) -> bool {
    matches!(text(context, &["seccompProfile", "type"]), "RuntimeDefault" | "Localhost")
}

fn seccomp_fields(pod: &Pod<'_>, found: &mut Vec<Violation>) {
    for (who, at, context) in contexts(pod) {
        if member(context, "seccompProfile").is_some() && !is_filter(context) {
            let kind = text(context, &["seccompProfile", "type"]);
            let what = format!("{who} sets seccompProfile.type to \"{kind}\"");
            add(found, "seccompProfile_baseline", format!("{at}/seccompProfile/type"), what);
        }
    }
}

fn seccomp_annotations(pod: &Pod<'_>, found: &mut Vec<Violation>) {
    let names = pod.containers().map(|container| format!("{SECCOMP_CONTAINER}{}", container.name()));
    for key in std::iter::once(SECCOMP_POD.to_owned()).chain(names) {
        let Some(value) = pod.annotation(&key) else { continue };
        if !(value == "runtime/default" || value == "docker/default" || value.starts_with("localhost/")) {
            let what = format!("the annotation {key} is \"{value}\"");
            add(found, "seccompProfile_baseline", annotation_pointer(&key), what);
        }
    }
}

fn sysctls(pod: &Pod<'_>, version: Version, found: &mut Vec<Violation>) {
    for (index, entry) in list(pod.spec(), &["securityContext", "sysctls"]).iter().enumerate() {
        let name = text(entry, &["name"]);
        if !SYSCTLS.iter().any(|(allowed, since)| *allowed == name && version.at_least(*since)) {
            let what = format!("the pod sets the kernel parameter {name}");
            add(found, "sysctls", format!("/spec/securityContext/sysctls/{index}"), what);
        }
    }
}
