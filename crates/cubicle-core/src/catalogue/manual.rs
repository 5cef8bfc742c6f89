//! Holds docs/reference/guarantees.md to the catalogue. To write it anew after a change:
//! `UPDATE_MANUAL=1 cargo test -p cubicle-core manual`.

use std::path::Path;
use std::{env, fs};

use super::{all, on, promised};
use crate::guarantee::{Guarantee, Layer, Place};
use crate::level::{EngineKind, Level};

const INTRODUCTION: &str = "\
# The catalogue of guarantees

Everything that a workspace is said not to be able to do. `cubicle guarantees` prints the same, and
`cubicle guarantees ID` one of them; id and alias name it everywhere. What a level promises is tried at
every launch; what it does not promise is told as *not claimed*.

This page is the catalogue of the program; a test keeps the two together.
";

/// The levels that an engine provides: `sandboxed` and `dedicated` are refused by both.
const LEVELS: [Level; 3] = [Level::Basic, Level::Standard, Level::Strict];
const ENGINES: [EngineKind; 2] = [EngineKind::Local, EngineKind::Kubernetes];

/// The page as it should be.
fn manual() -> String {
    let mut text = INTRODUCTION.to_owned();
    text.push_str(
        "\n| engine | meant for it | promised by `basic` | by `standard` | by `strict` |\n|---|---|---|---|---|\n",
    );
    for engine in ENGINES {
        let counts = LEVELS.map(|level| promised(level, engine).len().to_string());
        text.push_str(&format!("| {engine} | {} | {} |\n", on(engine).count(), counts.join(" | ")));
    }
    for (layer, title) in [
        (Layer::ControlPlane, "Control plane"),
        (Layer::Workload, "Workload"),
        (Layer::PlatformServices, "Platform services"),
    ] {
        text.push_str(&format!("\n## {title}\n"));
        for guarantee in all().iter().filter(|guarantee| guarantee.layer == layer) {
            describe(guarantee, &mut text);
        }
    }
    text
}

fn describe(guarantee: &Guarantee, text: &mut String) {
    let Guarantee { id, alias, .. } = guarantee;
    text.push_str(&format!("\n### `{id}` ({alias}) {{#{id}}}\n\n{}\n\n", escaped(guarantee.sentence)));
    let mut field = |name: &str, value: &str| {
        if !value.is_empty() {
            text.push_str(&format!("- {name}: {}\n", escaped(value)));
        }
    };
    field("Place", place(guarantee.place));
    field("What makes it so", guarantee.mechanism);
    field("What the probe tries", guarantee.live_probe);
    field("What shows that it could have succeeded", guarantee.positive_control);
    field("What an audit of manifests asks", guarantee.static_rule);
    for engine in ENGINES.into_iter().filter(|engine| guarantee.engines.contains(engine)) {
        let levels: Vec<String> = LEVELS
            .into_iter()
            .filter(|level| promised(*level, engine).contains(id))
            .map(|level| level.to_string())
            .collect();
        let levels = if levels.is_empty() { "no level".to_owned() } else { levels.join(", ") };
        field(&format!("Promised on {engine} by"), &levels);
    }
    for reference in guarantee.references {
        let shown = if reference.starts_with("https://") { format!("<{reference}>") } else { escaped(reference) };
        text.push_str(&format!("- Source: {shown}\n"));
    }
}

fn place(place: Place) -> &'static str {
    match place {
        Place::Cluster => "cluster",
        Place::Namespace => "namespace",
        Place::Node => "node",
        Place::Pod => "pod",
        Place::Container => "container",
        Place::Image => "image",
        Place::Network => "network",
        Place::Storage => "storage",
    }
}

/// Text without what Markdown reads as its own.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for character in text.chars() {
        if "\\`*_<>[]#|".contains(character) {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

#[test]
fn the_manual_says_what_the_catalogue_says() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/guarantees.md");
    if env::var_os("UPDATE_MANUAL").is_some() {
        fs::create_dir_all(file.parent().expect("a folder")).expect("the folder can be made");
        fs::write(&file, manual()).expect("the page can be written");
    }
    let written = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        written == manual(),
        "docs/reference/guarantees.md is stale: run `UPDATE_MANUAL=1 cargo test -p cubicle-core manual`"
    );
}
