//! Large bodies pass through the hub without staying in it. A process of its own, because it
//! looks at the process's memory: other tests would be in the way.
#![forbid(unsafe_code)]

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{Method, StatusCode};
use http_body_util::BodyExt as _;

use browser::Browser;
use site::Site;

#[allow(dead_code, reason = "shared with the other tests of the hub")]
#[path = "../hub/browser.rs"]
mod browser;
#[allow(dead_code, reason = "shared with the other tests of the hub")]
#[path = "../hub/engine.rs"]
mod engine;
#[allow(dead_code, reason = "shared with the other tests of the hub")]
#[path = "../hub/notebook.rs"]
mod notebook;
#[allow(dead_code, reason = "shared with the other tests of the hub")]
#[path = "../hub/site.rs"]
mod site;

/// What the process may grow by while many times as much passes.
const MOST_GROWTH: u64 = 32 << 20;

/// How much passes: 1100 for more than a GiB, 128 in the inner loop.
fn megabytes() -> usize {
    std::env::var("CUBICLE_TEST_MEGABYTES").ok().and_then(|text| text.parse().ok()).unwrap_or(128)
}

/// Blocks of one MiB, as many as asked for.
fn stream(megabytes: usize) -> Body {
    let block = Bytes::from(vec![1_u8; 1 << 20]);
    Body::from_stream(futures::stream::iter((0..megabytes).map(move |_| Ok::<_, std::io::Error>(block.clone()))))
}

/// The largest that this process has been since it was last asked to forget, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("status");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("VmHWM");
    line.split_whitespace().nth(1).expect("a number").parse::<u64>().expect("a number") << 10
}

/// Says how much more memory the process needed at its peak while `work` was done.
async fn growth(work: impl Future<Output = ()>) -> u64 {
    // "5" resets the peak (proc_pid_clear_refs(5)).
    std::fs::write("/proc/self/clear_refs", "5").expect("the peak is reset");
    let before = peak();
    work.await;
    peak() - before
}

/// One test, so that nothing else runs in this process meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_bodies_pass_and_do_not_stay() {
    let site = Site::start().await;
    let mut browser = site.signed_in("alice").await;
    let id = site.launch(&mut browser).await;
    site.open(&mut browser, &id).await;

    for (name, grown) in [
        ("upload", growth(upload(&site, &mut browser, &id, "/upload")).await),
        // The notebook reads nothing at first; a hub that buffers would grow by the whole upload.
        ("upload to a slow reader", growth(upload(&site, &mut browser, &id, "/slow-upload")).await),
        ("download", growth(download(&site, &mut browser, &id)).await),
        ("unread download", growth(unread_download(&site, &mut browser, &id)).await),
    ] {
        println!("{name}: {} MiB passed, {} KiB more memory at the peak", megabytes(), grown >> 10);
        assert!(grown < MOST_GROWTH, "{name}: memory grew by {grown} bytes");
    }

    let url = site.workspace_url(&id, "/upload");
    let length = (3_usize << 20).to_string();
    let sized = [("content-length", length.as_str())];
    assert_eq!(browser.send(Method::POST, &url, &sized, stream(3)).await.text(), format!("{length} sized"));
    let download = site.workspace_url(&id, "/download/1");
    let ranged = browser.send(Method::GET, &download, &[("range", "bytes=0-3")], Body::empty()).await;
    assert_eq!((ranged.status, ranged.text().as_str()), (StatusCode::PARTIAL_CONTENT, "part"));
}

async fn upload(site: &Site, browser: &mut Browser, id: &str, path: &str) {
    let answer = browser.send(Method::POST, &site.workspace_url(id, path), &[], stream(megabytes())).await;
    assert_eq!(answer.text(), format!("{} chunked", megabytes() << 20));
}

async fn download(site: &Site, browser: &mut Browser, id: &str) {
    let url = site.workspace_url(id, &format!("/download/{}", megabytes()));
    let mut body = browser.begin(Method::GET, &url, &[], Body::empty()).await.into_body();
    let mut count = 0;
    while let Some(frame) = body.frame().await {
        count += frame.expect("a frame").data_ref().map_or(0, Bytes::len);
    }
    assert_eq!(count, megabytes() << 20);
}

/// 10 GiB, of which the browser takes nothing for a while.
async fn unread_download(site: &Site, browser: &mut Browser, id: &str) {
    let answer = browser.begin(Method::GET, &site.workspace_url(id, "/download/10240"), &[], Body::empty()).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(answer);
}
