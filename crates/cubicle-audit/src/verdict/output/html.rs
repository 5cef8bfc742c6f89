//! One page that needs nothing else: the layers, what reaches what, and every finding.

use std::collections::BTreeSet;
use std::f64::consts::PI;
use std::fmt::Write;

use cubicle_core::guarantee::Layer;
use cubicle_core::report::Verdict;

use super::super::picture::{Openness, Picture};
use super::super::{Finding, Fix, Report, Ruling, Severity};
use super::{Alike, alike, escaped};

const STYLE: &str = "
:root{color-scheme:light dark;--page:#fff;--ink:#1c1f24;--soft:#5a606b;--line:#d9dce2;--plain:#f5f6f8;--tint:#eef3fb;--edge:#3a5a94;
--held:#1b7f4b;--breached:#c0262d;--unproven:#8f5b00;--none:#666c77;--red:#fdecec;--amber:#fff5df}
@media(prefers-color-scheme:dark){:root{--page:#15171b;--ink:#e6e8ec;--soft:#a3a9b5;--line:#3a3f49;--plain:#20242b;--tint:#1f2a40;--edge:#8fb0ee;
--held:#5fce94;--breached:#ff8a8a;--unproven:#f0b84f;--none:#9aa1ad;--red:#3a1d20;--amber:#362a12}}
*{box-sizing:border-box}body{font:15px/1.5 system-ui,sans-serif;background:var(--page);color:var(--ink);margin:0 auto;max-width:72rem;padding:1.5rem;overflow-wrap:anywhere}
h1{font-size:1.5rem;margin:0}h2{font-size:1.15rem;margin:2rem 0 .6rem}p{margin:.3rem 0}.soft{color:var(--soft)}
.counts b{font-size:1.3rem;margin-right:.2rem}.counts span{display:inline-block;margin-right:1.4rem;white-space:nowrap}
.held{color:var(--held)}.breached{color:var(--breached)}.unproven,.unknown{color:var(--unproven)}.not_claimed,.absent{color:var(--none)}.clean{color:var(--held)}
.layer{border:1px solid var(--line);border-radius:.5rem;padding:.7rem .9rem;margin:.6rem 0}.layer h3{margin:0 0 .4rem;font-size:1rem}
.tiles{display:flex;flex-wrap:wrap;gap:.3rem}.tile{border:1px solid currentColor;border-radius:.3rem;padding:.05rem .4rem;font-size:.8rem;text-decoration:none}
.tile.breached{background:var(--red);font-weight:600}.tile.unproven{background:var(--amber)}a.tile:hover,a.tile:focus{text-decoration:underline}
details{border:1px solid var(--line);border-radius:.5rem;margin:.4rem 0;padding:.4rem .8rem}details:target{border-color:var(--edge);border-width:2px}summary{cursor:pointer}
pre{background:var(--plain);padding:.6rem;overflow-x:auto;font-size:.8rem;border-radius:.3rem;white-space:pre-wrap}
code{font-size:.85rem}.picture{overflow-x:auto}svg{display:block;width:100%;min-width:40rem;height:auto}svg text{font:12px system-ui,sans-serif;fill:var(--ink)}
.group{fill:var(--tint);stroke:var(--edge)}.place{fill:var(--plain);stroke:var(--none)}.open{stroke:var(--breached)}.undecided{stroke:var(--unproven)}.needed{stroke:var(--none)}
";

/// The report as a page.
pub fn html(report: &Report) -> String {
    let mut page = String::new();
    let summary = &report.summary;
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Cubicle audit</title>\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><style>{STYLE}</style></head><body><main>\
         <h1>What isolates the workspaces</h1><p class=\"soft\">{} of {} in {}, level {}, network plugin {}. {}.</p>\
         <p>Result: <b class=\"{}\">{}</b></p>\
         <p class=\"counts\"><span class=\"held\"><b>{}</b>held</span><span class=\"breached\"><b>{}</b>breached</span>\
         <span class=\"unproven\"><b>{}</b>unproven</span><span class=\"not_claimed\"><b>{}</b>not claimed</span></p>",
        plural(report.workspaces, "workspace"),
        plural(report.tenants, "tenant"),
        plural(report.objects, "object"),
        report.level,
        escaped(&report.profile),
        escaped(&capital(&report.how)),
        report.result,
        report.result,
        summary.held,
        summary.breached,
        summary.unproven,
        summary.not_claimed,
    );
    if !report.complete {
        page.push_str("<p class=\"breached\"><b>Not everything could be read: this result is not clean.</b></p>");
    }
    if !report.unread.is_empty() {
        page.push_str("<ul>");
        for unread in &report.unread {
            let _ = write!(page, "<li>Unknown: {}</li>", escaped(&unread.reason));
        }
        page.push_str("</ul>");
    }
    page.push_str("<h2>Layers</h2>");
    for (layer, title) in [
        (Layer::ControlPlane, "Control plane"),
        (Layer::Workload, "Workload"),
        (Layer::PlatformServices, "Platform services"),
    ] {
        let of: Vec<&Ruling> = report.guarantees.iter().filter(|ruling| ruling.layer == layer).collect();
        let _ = write!(page, "<div class=\"layer\"><h3>{title}</h3><div class=\"tiles\">");
        for ruling in of {
            let title = format!("{}\n{}: {}", ruling.sentence, said(ruling.verdict), ruling.reason);
            let is_found = report.findings.iter().any(|finding| finding.guarantee == ruling.id);
            let (open, close) = match is_found {
                true => (format!("a href=\"#{}\"", escaped(&ruling.alias)), "a"),
                false => ("span".to_owned(), "span"),
            };
            let _ = write!(
                page,
                "<{open} class=\"tile {}\" title=\"{}\">{}</{close}>",
                ruling.verdict.as_str(),
                escaped(&title),
                escaped(&ruling.id)
            );
        }
        page.push_str("</div></div>");
    }
    page.push_str("<h2>What reaches what</h2>");
    page.push_str(&drawing(&report.picture));
    let like = alike(&report.findings);
    let causes =
        if like.len() == report.findings.len() { String::new() } else { format!(", {}", plural(like.len(), "cause")) };
    let _ = write!(page, "<h2>{}{causes}</h2>", plural(report.findings.len(), "finding"));
    if report.findings.is_empty() {
        page.push_str("<p>Nothing was found.</p>");
    }
    let mut seen = BTreeSet::new();
    for alike in &like {
        // The first of each guarantee is where its tile leads.
        page.push_str(&one(alike, seen.insert(&alike.first.alias)));
    }
    if !report.problems.is_empty() {
        page.push_str("<h2>The input</h2><ul>");
        for problem in &report.problems {
            let _ = write!(
                page,
                "<li>{} <code>{}</code> {}</li>",
                escaped(&problem.severity),
                escaped(&problem.location.to_string()),
                escaped(&problem.what)
            );
        }
        page.push_str("</ul>");
    }
    page.push_str("</main></body></html>\n");
    page
}

fn plural(count: usize, word: &str) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}

/// A verdict as a sentence has it.
fn said(verdict: Verdict) -> String {
    verdict.as_str().replace('_', " ")
}

fn capital(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map(|first| first.to_uppercase().chain(characters).collect()).unwrap_or_default()
}

/// How many objects with the same cause are named.
const MOST_ALIKE: usize = 20;

/// The other objects with a finding's cause: a thousand of them are counted, not shown.
fn others(others: &[&Finding]) -> String {
    let named = others.iter().take(MOST_ALIKE).map(|other| {
        let place = other.location.as_ref().map(|location| format!(" <code>{}</code>", escaped(&location.to_string())));
        format!("<li>{}{}</li>", escaped(&other.object), place.unwrap_or_default())
    });
    let mut text =
        format!("<p>Alike at {}:</p><ul>{}", plural(others.len(), "other object"), named.collect::<String>());
    if let Some(more @ 1..) = others.len().checked_sub(MOST_ALIKE) {
        let _ = write!(text, "<li class=\"soft\">and {more} more: --format json has all</li>");
    }
    text.push_str("</ul>");
    text
}

fn one(alike: &Alike<'_>, is_first: bool) -> String {
    let finding = alike.first;
    let severity = match finding.severity {
        Severity::High => "high",
        Severity::Medium => "medium",
        Severity::Low => "low",
    };
    let label = if finding.verdict == Verdict::Breached { severity } else { "unproven" };
    let label = if finding.refused.is_some() { "refused" } else { label };
    let label = if finding.counts() { label } else { "lived with" };
    let id = if is_first { format!(" id=\"{}\"", escaped(&finding.alias)) } else { String::new() };
    let mut text = format!(
        "<details{id}><summary><b class=\"{}\">{label}</b> <code>{}</code> {}</summary>",
        finding.verdict.as_str(),
        escaped(&finding.alias),
        escaped(&finding.claim())
    );
    let place = finding.location.as_ref().map(|location| format!(" <code>{}</code>", escaped(&location.to_string())));
    let _ = write!(text, "<p>{}{}</p>", escaped(finding.at_fault()), place.unwrap_or_default());
    if let Some(reason) = &finding.suppressed {
        let _ = write!(text, "<p class=\"soft\">{}</p>", escaped(reason));
    }
    if let Some(refused) = &finding.refused {
        let _ = write!(text, "<p>Refused by {}</p>", escaped(refused));
    }
    if !finding.witness.is_empty() {
        let _ = write!(text, "<pre>{}</pre>", escaped(&finding.witness.join("\n")));
    }
    let mut named = finding.workspaces.join(", ");
    if let Some(more @ 1..) = alike.workspaces().checked_sub(finding.workspaces.len()) {
        let _ = write!(named, " and {more} more");
    }
    let _ = write!(text, "<p class=\"soft\">for {}: {}</p>", plural(alike.workspaces(), "workspace"), escaped(&named));
    if !alike.others.is_empty() {
        text.push_str(&others(&alike.others));
    }
    if let Some(fix) = &finding.fix {
        let shown = match fix {
            Fix::Setting { text } => text.clone(),
            other => serde_json::to_string_pretty(&other.document()).unwrap_or_default(),
        };
        let title = match fix {
            Fix::Patch { target, .. } => format!("patch of {} {}", target.kind, target.name),
            Fix::Delete { target } => format!("delete {} {}", target.kind, target.name),
            Fix::Manifests { .. } => "apply".to_owned(),
            Fix::Setting { .. } => "set".to_owned(),
        };
        let _ = write!(text, "<p>Smallest change: {}</p><pre>{}</pre>", escaped(&title), escaped(&shown));
    }
    text.push_str("</details>");
    text
}

/// Groups on a circle, the world on the right: as many arrows as there are kinds of workspaces,
/// not as many as there are workspaces.
fn drawing(picture: &Picture) -> String {
    if picture.groups.is_empty() {
        return "<p class=\"soft\">No workspace was found.</p>".to_owned();
    }
    let count = picture.groups.len();
    let (centre_x, centre_y) = (230.0, 210.0);
    let radius = if count == 1 { 0.0 } else { 140.0 };
    let spots: Vec<(f64, f64)> = (0..count)
        .map(|at| {
            let angle = 2.0 * PI * at as f64 / count as f64 - PI;
            (centre_x + radius * angle.cos(), centre_y + radius * angle.sin())
        })
        .collect();
    let height = 420.0;
    let step = height / (picture.places.len() + 1) as f64;
    let places: Vec<(f64, f64)> = (1..=picture.places.len()).map(|at| (620.0, step * at as f64)).collect();
    let mut svg = "<svg viewBox=\"0 0 860 430\" role=\"img\" aria-label=\"What reaches what\"><defs>\
        <marker id=\"a\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" orient=\"auto\">\
        <path d=\"M0 0L8 4L0 8z\" fill=\"context-stroke\"/></marker></defs>"
        .to_owned();
    let mut line = |from: (f64, f64), to: (f64, f64), openness: Openness, title: &str| {
        let (class, dash) = match openness {
            Openness::Open => ("open", ""),
            Openness::Undecided => ("undecided", " stroke-dasharray=\"5 4\""),
            Openness::Needed => ("needed", ""),
        };
        let (dx, dy) = (to.0 - from.0, to.1 - from.1);
        let length = (dx * dx + dy * dy).sqrt().max(1.0);
        let shift = 26.0;
        let start = (from.0 + dx / length * shift, from.1 + dy / length * shift);
        let end = (to.0 - dx / length * shift, to.1 - dy / length * shift);
        let _ = write!(
            svg,
            "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" class=\"{class}\" stroke-width=\"1.6\"{dash} \
             marker-end=\"url(#a)\"><title>{}</title></line>",
            start.0,
            start.1,
            end.0,
            end.1,
            escaped(title)
        );
    };
    let mut loops = Vec::new();
    for edge in &picture.between {
        let (Some(from), Some(to)) = (spots.get(edge.from), spots.get(edge.to)) else { continue };
        if edge.from == edge.to {
            loops.push((*from, edge.openness));
        } else {
            line(*from, *to, edge.openness, &edge.title);
        }
    }
    for edge in &picture.out {
        if let (Some(from), Some(to)) = (spots.get(edge.from), places.get(edge.to)) {
            line(*from, *to, edge.openness, &edge.title);
        }
    }
    for ((x, y), openness) in loops {
        let class = if openness == Openness::Open { "open" } else { "undecided" };
        let _ = write!(
            svg,
            "<circle cx=\"{x:.1}\" cy=\"{:.1}\" r=\"14\" fill=\"none\" class=\"{class}\" stroke-width=\"1.6\">\
             <title>workspaces of this group reach each other</title></circle>",
            y - 30.0
        );
    }
    for (group, (x, y)) in picture.groups.iter().zip(&spots) {
        let _ = write!(
            svg,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"22\" class=\"group\"/>\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            y + 4.0,
            group.count,
            y + 38.0,
            escaped(&shortened(&group.example))
        );
    }
    for (place, (x, y)) in picture.places.iter().zip(&places) {
        let _ = write!(
            svg,
            "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"210\" height=\"26\" rx=\"5\" class=\"place\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            x - 8.0,
            y - 13.0,
            x + 2.0,
            y + 4.0,
            escaped(place)
        );
    }
    svg.push_str("</svg>");
    let left = if picture.left_out > 0 {
        format!(" {} smaller groups are not drawn.", picture.left_out)
    } else {
        String::new()
    };
    format!(
        "<p class=\"soft\">A circle is a group of workspaces that the network does not tell apart, with their number. \
         Red: open. Dashed: the network plugin decides. Grey: needed. A ring: they reach each other.{left}</p><div class=\"picture\" tabindex=\"0\" role=\"region\" aria-label=\"What reaches what, as a picture\">{svg}</div>"
    )
}

fn shortened(text: &str) -> String {
    if text.chars().count() <= 28 {
        return text.to_owned();
    }
    text.chars().take(26).chain(['\u{2026}']).collect()
}
