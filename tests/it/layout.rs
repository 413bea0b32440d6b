//! The layout is held: who names the SDK, and who may look at the clock.

use std::path::{Path, PathBuf};

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files
}

/// The code of a file: without comments, and without its tests, which end it.
fn code(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    let product = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    product.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

fn naming(words: &[&str]) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files: Vec<String> = sources(&root)
        .iter()
        .filter(|path| words.iter().any(|word| code(path).contains(word)))
        .map(|path| path.strip_prefix(&root).unwrap().display().to_string())
        .collect();
    files.sort();
    files
}

#[test]
fn one_room_names_the_sdk() {
    let files = naming(&["aws_sdk_kinesis", "aws_smithy", "aws_config", "aws_credential", "aws_sigv4"]);
    assert!(!files.is_empty());
    assert!(files.iter().all(|file| file.starts_with("kinesis/")), "{files:?}");
}

#[test]
fn the_pure_part_has_no_time_and_no_io() {
    let impure =
        naming(&["tokio::", "std::fs", "std::net", "std::thread", "Instant::now", "SystemTime", "Utc::now"]);
    let allowed = |file: &str| {
        ["admin/", "kinesis/", "run", "main.rs", "plan", "terminal/"]
            .iter()
            .any(|room| file.starts_with(room))
            || [
                "producer/mod.rs",
                "producer/alarm.rs",
                "producer/lane.rs",
                "producer/steering.rs",
                "verify/consumer.rs",
                "verify/index.rs",
                "verify/turn.rs",
            ]
            .contains(&file)
    };
    let strangers: Vec<_> = impure.iter().filter(|file| !allowed(file)).collect();
    assert!(strangers.is_empty(), "{strangers:?}");
}

#[test]
fn rooms_stay_small() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for path in sources(&root) {
        let text = std::fs::read_to_string(&path).unwrap();
        let lines = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default().lines().count();
        assert!(lines <= 420, "{} has {lines} lines before its tests: split it", path.display());
    }
}
