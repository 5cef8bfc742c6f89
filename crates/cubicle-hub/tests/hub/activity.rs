//! What counts as the user's doing, through the whole hub.

use std::time::Duration;

use axum::http::Method;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::browser::{Browser, frame};
use crate::site::Site;

async fn opened(busy_poll: Duration) -> (Site, Browser, String) {
    let site = Site::start_with(|config| config.timing.busy_poll = busy_poll).await;
    let mut browser = site.signed_in("alice").await;
    let id = site.launch(&mut browser).await;
    site.open(&mut browser, &id).await;
    (site, browser, id)
}

const NEVER: Duration = Duration::from_secs(3600);
/// Longer than the hub waits between two reports.
const SETTLED: Duration = Duration::from_millis(400);

fn reports(site: &Site) -> usize {
    site.engine.activities.lock().expect("unpoisoned").len()
}

/// Waits for this many reports; a busy machine may take its time.
async fn reported(site: &Site, count: usize) {
    for _ in 0..200 {
        if reports(site) >= count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{} reports instead of {count}", reports(site));
}

#[tokio::test]
async fn an_open_tab_alone_is_no_activity() {
    let (site, mut browser, id) = opened(NEVER).await;
    for path in ["/api/kernels", "/api/contents/a.ipynb", "/static/x.js", "/lab/api/settings"] {
        browser.fetch(Method::GET, &site.workspace_url(&id, path), None).await;
    }
    // Pongs on a kernel's socket, and messages on one that is not a kernel's.
    let (_, mut kernel) = browser.websocket(&site.workspace_url(&id, "/api/kernels/k/channels"), &[]).await;
    let (_, mut other) = browser.websocket(&site.workspace_url(&id, "/api/events/subscribe"), &[]).await;
    kernel.write_all(&frame(10, b"pong")).await.expect("sent");
    other.write_all(&frame(1, b"message")).await.expect("sent");
    let mut byte = [0; 1];
    kernel.read_exact(&mut byte).await.expect("echoed");
    other.read_exact(&mut byte).await.expect("echoed");
    tokio::time::sleep(SETTLED).await;
    assert_eq!(reports(&site), 0);

    kernel.write_all(&frame(1, b"execute")).await.expect("sent");
    reported(&site, 1).await;
    browser.fetch(Method::PUT, &site.workspace_url(&id, "/api/contents/a.ipynb"), None).await;
    reported(&site, 2).await;
    tokio::time::sleep(SETTLED).await;
    assert_eq!(reports(&site), 2);
}

#[tokio::test]
async fn a_busy_kernel_is_reported_as_such() {
    let (site, _, id) = opened(Duration::from_millis(200)).await;
    reported(&site, 1).await;
    let seen = site.engine.activities.lock().expect("unpoisoned").clone();
    let (workspace, activity) = seen.last().expect("a report");
    assert_eq!(workspace.as_str(), id);
    let busy_at = activity.busy_at.expect("busy");
    // Being busy is not the user's doing.
    assert!(activity.at < busy_at);
}
