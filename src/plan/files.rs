//! The files that a task writes: that there is a place for each, and that none of them is another.

use super::{Output, WriteTo};
use crate::config::{ConfigError, Settings};
use crate::settings::Key;
use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};

/// A file, and what it is called where it is given.
pub(crate) type Given = (String, PathBuf);

/// Those of the files to be written that are another one of them, or are read: what each is called.
pub(crate) fn clashes(written: &[Given], read: &[Given]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (place, (name, path)) in written.iter().enumerate() {
        let Some(own) = identity(path) else { continue };
        let others = written[..place].iter().chain(read);
        let same = others.filter(|(_, other)| identity(other).is_some_and(|other| other == own));
        found.extend(same.map(|(other, _)| (name.clone(), other.clone())));
    }
    found
}

/// Where a regular file is, or will be; what else is there (a device, a pipe) may be named twice.
fn identity(path: &Path) -> Option<PathBuf> {
    match std::fs::metadata(path) {
        Ok(what) if !what.is_file() => None,
        Ok(_) => path.canonicalize().ok(),
        Err(_) => {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            let folder = folder.unwrap_or(Path::new("."));
            Some(folder.canonicalize().unwrap_or_else(|_| folder.to_owned()).join(path.file_name()?))
        }
    }
}

/// Finds out whether a file can be written, so that a run does not end without a place for its results. It
/// is not left behind empty: a run that is killed has none.
fn check_writable(path: &Path) -> io::Result<()> {
    match std::fs::metadata(path) {
        // To open a pipe and close it again would end it for who reads it.
        Ok(what) if !what.is_file() && !what.is_dir() => Ok(()),
        Ok(_) => OpenOptions::new().append(true).open(path).map(drop),
        Err(_) => {
            OpenOptions::new().write(true).create_new(true).open(path)?;
            std::fs::remove_file(path)
        }
    }
}

impl Output {
    /// What is wrong with the files of the results.
    #[must_use]
    pub fn check_files(&self) -> Vec<ConfigError> {
        let summary = match &self.summary {
            Some(WriteTo::File(path)) => Some(("--summary", path)),
            _ => None,
        };
        let files = summary.into_iter().chain(self.report.as_ref().map(|path| ("--report", path)));
        let checked = files.map(|(flag, path)| {
            check_writable(path)
                .map_err(|error| ConfigError::elsewhere(format!("{flag} {}", path.display()), error))
        });
        checked.filter_map(Result::err).collect()
    }
}

impl Settings {
    /// Refuses files of results that are one another, the config file, or another file that is read. A summary
    /// that was proved is read by `tickgen verify` alone (`proof`).
    #[must_use]
    pub fn check_files(&self, config: Option<&Path>, proof: bool) -> Vec<ConfigError> {
        let given = |of: &Self, key: Key| {
            let raw = of.get(key);
            let text = raw.texts.first().filter(|text| !text.is_empty() && *text != "-")?;
            let path = match key {
                Key::Shape => text.strip_prefix("replay:")?,
                Key::To if text == "stdout" => return None,
                _ => text,
            };
            Some((ConfigError::new(key, raw, "").place(), PathBuf::from(path)))
        };
        let written = [Key::Summary, Key::Report, Key::HdrLog, Key::To];
        let written: Vec<Given> = written.iter().filter_map(|key| given(self, *key)).collect();
        let mut read: Vec<Given> =
            config.map(|path| ("the config file".to_owned(), path.to_owned())).into_iter().collect();
        let settings = if proof { &[Key::VerifySummaryOf][..] } else { &[Key::Prices] };
        read.extend(settings.iter().filter_map(|key| given(self, *key)));
        for (_, load) in self.loads() {
            read.extend([Key::Template, Key::Shape].iter().filter_map(|key| given(&load, *key)));
        }
        let told = |(name, other)| ConfigError::elsewhere(name, format!("is the same file as {other}"));
        let mut told: Vec<_> = clashes(&written, &read).into_iter().map(told).collect();
        told.dedup();
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_the_same_by_any_path_to_them() {
        let folder = std::env::temp_dir().join(format!("tickgen-files-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("in")).unwrap();
        std::fs::write(folder.join("there"), "").unwrap();
        std::os::unix::fs::symlink(folder.join("there"), folder.join("link")).unwrap();
        let given = |path: &str| (path.to_owned(), folder.join(path));
        let written = [given("new"), given("in/../new"), given("link"), given("other")];
        let same = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let found = clashes(&written, &[given("there"), given("in/other")]);
        assert_eq!(found, [same("in/../new", "new"), same("link", "there")]);
        // What is no file takes several.
        let null = ("null".to_owned(), PathBuf::from("/dev/null"));
        assert_eq!(clashes(&[null.clone(), null.clone()], &[null]), []);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
