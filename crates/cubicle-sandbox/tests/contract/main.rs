//! The contract of a sandbox, the same for every runtime and both versions of control groups.
//!
//! `contract [ROOTFS]` as root: prints a line per case and `N passed, N failed`. Without a root
//! file system it makes one from a static busybox. The program is its own helper, its own probe
//! and its own tenant, so that with a root file system of somebody else's it must be linked
//! statically.
#![allow(unsafe_code, unreachable_pub)]

mod cases;
mod inside;
mod outside;

use std::path::Path;
use std::process::ExitCode;

use cubicle_core::attempt::Role;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    let words: Vec<String> = arguments.iter().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let show = |facts: inside::Facts| {
        println!("{}", serde_json::to_string(&facts).expect("JSON"));
        0
    };
    let code = match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["internal-sandbox", dir] => return cubicle_sandbox::helper::run(Path::new(dir)),
        ["internal-join", ..] => return cubicle_sandbox::join::run(&arguments[2..]),
        ["internal-egress"] => outside::egress(),
        ["confined", kind] => outside::confined(kind),
        ["start", dir] => outside::start(Path::new(dir)),
        ["gate"] => inside::gate(),
        ["later"] => inside::probe(Role::Tenant),
        ["control"] => inside::probe(Role::Control),
        ["facts"] => show(inside::facts()),
        ["calls"] => show(inside::calls()),
        ["writable", ..] => show(inside::writable(&words[1..])),
        ["notebook"] => inside::notebook(),
        ["hostile"] => inside::hostile(),
        ["forks"] => inside::forks(),
        ["hog"] => inside::hog(),
        ["dial", port] => inside::dial(port),
        ["fill", path] => inside::fill(path),
        rest => return cases::run(rest.iter().find(|word| word.starts_with('/')).map(Path::new)),
    };
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
