//! What a notebook finds in its environment, on every engine.

use std::net::IpAddr;

use crate::template::Template;

/// The whole environment of a notebook: nothing that an engine or a kubelet adds by itself is in it.
///
/// `image` is the digest of the image, with or without `sha256:`: packages that a user installs belong
/// to the Python of one image. `address` is the one to listen on, where that is not the loopback
/// address. `proxy` is the egress proxy, where all traffic goes through one.
pub fn environment(
    template: &Template,
    image: &str,
    token: &str,
    address: Option<IpAddr>,
    proxy: Option<&str>,
) -> Vec<(String, String)> {
    let home = &template.spec.home.mount_path;
    let key: String = image.trim_start_matches("sha256:").chars().take(12).collect();
    let base = format!("{home}/.local/cubicle/{key}");
    let mut environment = vec![
        ("HOME", home.clone()),
        ("USER", "user".to_owned()),
        ("LOGNAME", "user".to_owned()),
        ("SHELL", "/bin/bash".to_owned()),
        ("LANG", "C.UTF-8".to_owned()),
        ("PATH", format!("{base}/bin:/usr/local/bin:/usr/bin:/bin")),
        ("PYTHONUSERBASE", base),
        ("CUBICLE_PORT", template.spec.port.to_string()),
        ("CUBICLE_TOKEN", token.to_owned()),
    ];
    if template.spec.base_path != "/" {
        environment.push(("CUBICLE_BASE", template.spec.base_path.clone()));
    }
    if let Some(address) = address {
        environment.push(("CUBICLE_ADDRESS", address.to_string()));
    }
    if let Some(proxy) = proxy {
        for name in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"] {
            environment.push((name, proxy.to_owned()));
        }
        for name in ["no_proxy", "NO_PROXY"] {
            environment.push((name, "localhost,127.0.0.1,::1".to_owned()));
        }
    }
    environment.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
