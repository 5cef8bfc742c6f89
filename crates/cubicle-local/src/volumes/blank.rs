//! Homes that nobody has yet: file systems made while nobody waits, for the next users whom nobody has seen before.
//! They are holes in their files until somebody gets one, so that they take next to no space.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use cubicle_core::problem::Problem;

use crate::layout::Layout;

/// Holds as many of each size in bytes as are wanted, and no others.
pub(crate) async fn hold(layout: &Layout, wanted: &BTreeMap<u64, usize>) -> Result<(), Problem> {
    let folder = layout.blank_homes();
    let failed = |error: io::Error| Problem::engine(format!("homes cannot be made ahead: {error}"), "");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(failed)?;
    let mut held: BTreeMap<u64, usize> = BTreeMap::new();
    for entry in fs::read_dir(&folder).map_err(failed)?.flatten() {
        // What has another name was being made when an engine ended.
        let size = size_of(&entry.file_name().to_string_lossy());
        let count = size.map(|size| held.entry(size).or_default());
        match count.filter(|count| size.and_then(|size| wanted.get(&size)).is_some_and(|most| **count < *most)) {
            Some(count) => *count += 1,
            None => fs::remove_file(entry.path()).map_err(failed)?,
        }
    }
    for (size, most) in wanted {
        for _ in held.get(size).copied().unwrap_or_default()..*most {
            let draft = folder.join("draft");
            fs::File::create_new(&draft).and_then(|file| file.set_len(*size)).map_err(failed)?;
            super::format(&draft).await?;
            fs::rename(&draft, folder.join(format!("{size}-{:016x}", rand::random::<u64>()))).map_err(failed)?;
        }
    }
    Ok(())
}

/// Moves one of this size to where a home is made; whether there was one.
pub(super) fn take(layout: &Layout, size: u64, to: &Path) -> bool {
    let entries = fs::read_dir(layout.blank_homes()).into_iter().flatten().flatten();
    let mut fitting = entries.filter(|entry| size_of(&entry.file_name().to_string_lossy()) == Some(size));
    fitting.any(|entry| fs::rename(entry.path(), to).is_ok())
}

fn size_of(name: &str) -> Option<u64> {
    name.split_once('-')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn as_many_as_are_wanted_and_each_is_taken_once() {
        let home = tempfile::tempdir().expect("a folder");
        let layout = Layout::new(home.path());
        const SIZE: u64 = 16 << 20;
        let names = || fs::read_dir(layout.blank_homes()).expect("there").flatten().count();
        hold(&layout, &[(SIZE, 2)].into()).await.expect("made");
        fs::write(layout.blank_homes().join("draft"), "half").expect("left behind");
        hold(&layout, &[(SIZE, 2)].into()).await.expect("the same");
        assert_eq!(names(), 2);
        let to = home.path().join("home.ext4");
        assert!(!take(&layout, SIZE + 1, &to), "another size");
        assert!(take(&layout, SIZE, &to) && take(&layout, SIZE, &to) && !take(&layout, SIZE, &to));
        assert!(crate::volumes::is_clean(&to).expect("read"));
        hold(&layout, &[(SIZE, 1)].into()).await.expect("made");
        hold(&layout, &BTreeMap::new()).await.expect("all gone");
        assert_eq!(names(), 0);
    }
}
