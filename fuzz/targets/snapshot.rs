//! Any bytes as a file of manifests. Nothing panics, nothing is lost silently, and every place
//! that is told lies inside the file.
#![no_main]

use cubicle_audit::snapshot::{File, Snapshot};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let snapshot = Snapshot::from_files(vec![File { name: "f".to_owned(), bytes: bytes.to_vec() }]);
    let Ok(text) = std::str::from_utf8(bytes) else {
        assert!(!snapshot.is_complete() || bytes.starts_with(&[0xFF, 0xFE]) || bytes.starts_with(&[0xFE, 0xFF]));
        return;
    };
    let lines = u32::try_from(text.split('\n').count()).unwrap_or(u32::MAX);
    // YAML also ends lines at a carriage return alone.
    let lines = lines + u32::try_from(text.matches('\r').count()).unwrap_or(u32::MAX);
    let is_inside = |line: u32| line <= lines + 1;
    for object in &snapshot.objects {
        assert!(is_inside(object.source.line), "an object at line {} of {lines}", object.source.line);
        assert!(is_inside(object.place("/metadata/name").line));
        let _ = object.json();
    }
    for problem in &snapshot.problems {
        assert!(is_inside(problem.source.line), "{problem:?} of {lines}");
        assert!(!problem.what.is_empty());
    }
    // An empty list holds nothing, and that is all there is to it.
    if text.contains("List") {
        return;
    }
    let has_content = text.lines().any(|line| line.starts_with("apiVersion:"));
    let told = !snapshot.objects.is_empty() || !snapshot.problems.is_empty();
    assert!(!has_content || told, "lost silently");
});
