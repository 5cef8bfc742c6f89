//! What files look like in the wild, and what becomes of each.

use super::*;

fn read(files: &[(&str, &[u8])]) -> Snapshot {
    Snapshot::from_files(
        files.iter().map(|(name, bytes)| File { name: (*name).to_owned(), bytes: bytes.to_vec() }).collect(),
    )
}

fn one(text: &str) -> Snapshot {
    read(&[("a.yaml", text.as_bytes())])
}

fn problems(snapshot: &Snapshot) -> Vec<String> {
    snapshot
        .problems
        .iter()
        .map(|problem| format!("{:?} {}: {}", problem.severity, snapshot.locate(problem.source), problem.what))
        .collect()
}

fn names(snapshot: &Snapshot) -> Vec<String> {
    snapshot
        .objects
        .iter()
        .map(|object| format!("{} {}/{}", object.kind, object.namespace.as_deref().unwrap_or("-"), object.name))
        .collect()
}

#[test]
fn documents_lists_and_json_become_objects_with_places() {
    let snapshot = one(
        "# a comment\n---\napiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Pod\n  metadata: {name: a}\n---\n\n---\r\napiVersion: v1\r\nkind: Pod\r\nmetadata:\r\n  name: b\r\n  namespace: x\r\n...\n--- # Source: chart\napiVersion: v1\nkind: PodList\nitems:\n- metadata:\n    name: c\n",
    );
    assert_eq!(names(&snapshot), ["Pod default/a", "Pod x/b", "Pod default/c"]);
    assert_eq!(problems(&snapshot), [""; 0]);
    let places: Vec<_> =
        snapshot.objects.iter().map(|object| snapshot.locate(object.place("/metadata/name"))).collect();
    assert_eq!(places, ["a.yaml:8:20", "a.yaml:15:9", "a.yaml:23:11"]);
}

#[test]
fn a_value_that_is_absent_is_placed_at_its_parent() {
    let snapshot = one("apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\nspec:\n  x: 1\n");
    assert_eq!(snapshot.locate(snapshot.objects[0].place("/spec/y/z")), "a.yaml:6:3");
    assert_eq!(snapshot.locate(snapshot.objects[0].place("/nothing")), "a.yaml:1:1");
}

#[test]
fn a_broken_document_does_not_hide_the_others() {
    let snapshot = one(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n---\nkind: Pod\n  broken: [\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: b}\n",
    );
    assert_eq!(names(&snapshot), ["Pod default/a", "Pod default/b"]);
    assert_eq!(snapshot.problems.len(), 1);
    assert!(problems(&snapshot)[0].starts_with("Error a.yaml:6:"), "{:?}", problems(&snapshot));
    assert!(!snapshot.is_complete());
}

#[test]
fn byte_order_marks_are_no_content() {
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: ä}\n";
    let with_mark = format!("\u{feff}{text}");
    let utf16: Vec<u8> = [0xFF, 0xFE].into_iter().chain(text.encode_utf16().flat_map(u16::to_le_bytes)).collect();
    let snapshot = read(&[("a.yaml", with_mark.as_bytes()), ("b.yaml", &utf16)]);
    assert_eq!(names(&snapshot), ["Pod default/ä"]);
    assert_eq!(snapshot.problems.len(), 1, "alike twice: {:?}", problems(&snapshot));
}

#[test]
fn what_is_not_text_is_an_error_with_a_place() {
    let snapshot = read(&[("a.yaml", b"x\ny\xff"), ("b.yaml", b"a\0b"), ("c.yaml", &[0xFF, 0xFE, 0x00])]);
    assert_eq!(
        problems(&snapshot),
        [
            "Error a.yaml:2:2: this is not text: a byte here is not UTF-8",
            "Error b.yaml:1:2: this is not text: it has a NUL byte",
            "Error c.yaml: this is not UTF-16 text"
        ]
    );
}

#[test]
fn names_that_yaml_reads_as_booleans_are_refused_as_the_server_refuses_them() {
    let snapshot = one(
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: y}\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: \"y\"}\n",
    );
    assert_eq!(names(&snapshot), ["Namespace -/y"]);
    assert_eq!(
        problems(&snapshot),
        ["Error a.yaml:3:18: metadata.name of this Namespace must be text but is a boolean; the API server refuses it"]
    );
}

#[test]
fn anchors_aliases_and_merges_are_expanded() {
    let snapshot = one(
        "apiVersion: v1\nkind: Pod\nmetadata: &m {name: a, labels: &l {x: '1'}}\nspec: {<<: {a: 1, b: 1}, b: 2, selector: *l}\n",
    );
    let spec = snapshot.objects[0].value["spec"].to_json();
    assert_eq!(spec, serde_json::json!({"a": 1, "b": 2, "selector": {"x": "1"}}));
}

#[test]
fn a_bomb_of_anchors_is_defused() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let refers = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{refers}]\n"));
    }
    let snapshot = one(&bomb);
    assert!(
        problems(&snapshot)[0].contains("aliases of this document stand for more than"),
        "{:?}",
        problems(&snapshot)
    );
    let snapshot = one("apiVersion: v1\nkind: Pod\nmetadata: &m\n  name: a\n  self: *m\n");
    assert!(!snapshot.is_complete(), "{snapshot:?}");
}

#[test]
fn deep_nesting_is_refused() {
    for text in [
        format!("a: {}", "[".repeat(100_000)),
        "- ".repeat(100_000),
        format!("{}1{}", "{\"a\":".repeat(300), "}".repeat(300)),
    ] {
        let snapshot = one(&text);
        assert!(!snapshot.is_complete());
    }
}

#[test]
fn keys_given_twice_are_told_and_the_last_counts() {
    let snapshot = one("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  x: 1\n  x: 2\n");
    assert_eq!(snapshot.objects[0].value["spec"]["x"].integer(), Some(2));
    assert_eq!(problems(&snapshot), ["Warning a.yaml:5:3: key \"x\" is given twice; the last one counts"]);
}

#[test]
fn objects_given_twice_are_told() {
    let pod = |image: &str| format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: a}}\nspec: {{image: {image}}}\n");
    let snapshot =
        read(&[("b.yaml", pod("x").as_bytes()), ("a.yaml", pod("x").as_bytes()), ("c.yaml", pod("y").as_bytes())]);
    assert_eq!(names(&snapshot), ["Pod default/a"]);
    assert_eq!(
        problems(&snapshot),
        [
            "Note b.yaml:1:1: Pod default/a is given twice, alike; first at a.yaml:1:1",
            "Error c.yaml:1:1: Pod default/a is given twice, differently; the one at a.yaml:1:1 was taken"
        ]
    );
}

#[test]
fn what_is_no_object_is_told() {
    let snapshot = one(
        "replicas: 1\n---\n- a\n---\nkind: Pod\nmetadata: {name: a}\n---\napiVersion: v1\nkind: Pod\n---\napiVersion: example.com/v1\nkind: Widget\nmetadata: {name: w}\n",
    );
    assert_eq!(
        problems(&snapshot),
        [
            "Note a.yaml:1:1: this is not a Kubernetes object: it has neither apiVersion nor kind",
            "Note a.yaml:3:1: this is not a Kubernetes object but a list",
            "Error a.yaml:5:1: this Pod has no apiVersion",
            "Error a.yaml:8:1: this Pod has no metadata.name"
        ]
    );
    assert_eq!(snapshot.unknown_kinds().into_iter().collect::<Vec<_>>(), [(("example.com/v1", "Widget"), 1)]);
}

#[test]
fn json_values_may_follow_one_another() {
    let snapshot = one(
        "{\"apiVersion\": \"v1\", \"kind\": \"Pod\",\n\t\"metadata\": {\"name\": \"a\"}}\n{\"apiVersion\": \"v1\", \"kind\": \"Pod\", \"metadata\": {\"name\": \"\\ud83d\\ude00\"}}\n",
    );
    assert_eq!(names(&snapshot), ["Pod default/a", "Pod default/😀"]);
    assert_eq!(snapshot.objects[1].source.line, 3);
}

#[test]
fn many_documents_keep_their_order() {
    let text: String =
        (0..5000).map(|at| format!("---\napiVersion: v1\nkind: Pod\nmetadata: {{name: p{at}}}\n")).collect();
    let snapshot = one(&text);
    let expected: Vec<_> = (0..5000).map(|at| format!("Pod default/p{at}")).collect();
    assert_eq!(names(&snapshot), expected);
}

#[test]
fn what_is_too_much_is_told_and_makes_the_whole_incomplete() {
    let text: String =
        (0..40_000).map(|at| format!("---\napiVersion: v1\nkind: Pod\nmetadata: {{name: p{at}}}\n")).collect();
    let files = || vec![File { name: "a.yaml".to_owned(), bytes: text.clone().into_bytes() }];
    // Eight values each: two mappings, three keys and one more, and their texts.
    let snapshot = Snapshot::from_files_up_to(files(), 80_000);
    let read = snapshot.objects.len();
    assert!((8_000..20_000).contains(&read), "{read}");
    assert!(!snapshot.is_complete());
    let line = read * 4 + 1;
    assert_eq!(
        problems(&snapshot),
        [format!(
            "Error a.yaml:{line}: more than 80000 values were read; the {} documents from here on were not",
            40_000 - read
        )]
    );
    assert!(Snapshot::from_files(files()).is_complete());
}

#[test]
fn a_million_problems_are_counted() {
    let text = "---\nkind: Pod\n".repeat(10_500);
    let snapshot = one(&text);
    assert_eq!(snapshot.problems.len(), 10_001);
    assert_eq!(problems(&snapshot).pop().as_deref(), Some("Error a.yaml: 500 problems more are not told"));
}

#[test]
fn folders_are_read_without_following_loops() -> std::io::Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path();
    std::fs::create_dir(path.join("in"))?;
    std::fs::write(path.join("in/a.yaml"), "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n")?;
    std::fs::write(path.join("README.md"), "text")?;
    std::os::unix::fs::symlink("..", path.join("in/up"))?;
    std::os::unix::fs::symlink("self.yaml", path.join("self.yaml"))?;
    std::os::unix::fs::symlink("nowhere", path.join("dangling.yaml"))?;
    let snapshot = read::read(&[path.to_owned(), path.join("absent")]);
    assert_eq!(names(&snapshot), ["Pod default/a"]);
    let mut told: Vec<_> =
        problems(&snapshot).into_iter().map(|text| text.replace(&path.display().to_string(), "")).collect();
    told.sort();
    assert_eq!(
        told,
        [
            "Error /absent: this could not be read: No such file or directory (os error 2)",
            "Note  /absent: 1 files that are not .yaml, .yml or .json were not read",
            "Note /in/up: this was read already under another name",
            "Warning /dangling.yaml: this link leads nowhere",
            "Warning /self.yaml: this link leads to itself"
        ]
    );
    Ok(())
}
