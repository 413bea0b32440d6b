//! Where settings come from: flags over `TICKGEN_*` variables over a config file over defaults.
//!
//! Values stay texts here, each with its source; [`crate::plan`] gives them meaning. What is wrong is
//! gathered, not thrown: a user sees every mistake at once.

use crate::settings::{Key, SETTINGS};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue};

/// Where a value was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// On the command line.
    Flag,
    /// In the environment.
    Variable,
    /// In a config file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// Whether in a `[[load]]` rather than above them.
        in_load: bool,
    },
    /// Nowhere: the default.
    Default,
}

impl Source {
    /// How specific it is: the higher wins.
    #[must_use]
    pub fn rank(&self) -> u8 {
        match self {
            Self::Default => 0,
            Self::File { in_load: false, .. } => 1,
            Self::File { in_load: true, .. } => 2,
            Self::Variable => 3,
            Self::Flag => 4,
        }
    }
}

/// A value as it was given: one text, or several for a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raw {
    /// The texts.
    pub texts: Vec<String>,
    /// Where they were given.
    pub source: Source,
}

/// A mistake in the configuration: which setting, where, which value, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    name: String,
    raw: Option<Raw>,
    problem: String,
}

impl ConfigError {
    /// A mistake in the value of a setting.
    pub fn new(key: Key, raw: &Raw, problem: impl fmt::Display) -> Self {
        Self { name: key.setting().name.to_owned(), raw: Some(raw.clone()), problem: problem.to_string() }
    }

    /// A mistake that is not the value of a setting.
    pub fn elsewhere(name: impl Into<String>, problem: impl fmt::Display) -> Self {
        Self { name: name.into(), raw: None, problem: problem.to_string() }
    }

    /// Where it was made: the setting with its value, as it was given.
    pub(crate) fn place(&self) -> String {
        let Self { name, raw, .. } = self;
        let Some(Raw { texts, source }) = raw else { return name.clone() };
        let value = texts.iter().map(|text| without_credentials(text)).collect::<Vec<_>>().join(", ");
        match source {
            Source::Flag => {
                let flag = Key::named(name).map_or(name.as_str(), |key| key.setting().flag());
                format!("--{flag} {value}")
            }
            Source::Variable => {
                let variable = Key::named(name).map_or_else(|| name.clone(), |key| key.setting().variable());
                format!("{variable}={value}")
            }
            Source::File { path, line, .. } => format!("{}:{line}: {name} = {value}", path.display()),
            Source::Default => format!("{name} (default {value})"),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place(), self.problem)
    }
}

impl std::error::Error for ConfigError {}

/// Every setting with its value and source.
#[derive(Clone, Debug)]
pub struct Settings {
    values: HashMap<Key, Raw>,
    loads: Vec<LoadTable>,
}

/// A `[[load]]` of a config file.
#[derive(Clone, Debug)]
struct LoadTable {
    name: String,
    values: Vec<(Key, Raw)>,
}

impl Settings {
    /// Layers the sources. Returns what could be read, and every mistake.
    #[must_use]
    pub fn layer(
        file: Option<(&Path, &str)>,
        variables: impl IntoIterator<Item = (String, String)>,
        flags: Vec<(Key, Raw)>,
    ) -> (Self, Vec<ConfigError>) {
        let mut errors = Vec::new();
        let mut values: HashMap<Key, Raw> =
            SETTINGS.iter().map(|(key, s)| (*key, default(s.default))).collect();
        let mut loads = Vec::new();
        if let Some((path, text)) = file {
            let mut reader = FileReader { path, text, errors: &mut errors };
            let (own, tables) = reader.read();
            values.extend(own);
            loads = tables;
        }
        values.extend(from_variables(variables, &mut errors));
        values.extend(flags);
        let in_loads = loads.iter().flat_map(|load| &load.values).map(|(key, raw)| (key, raw));
        for (key, raw) in values.iter().chain(in_loads) {
            if raw.source == Source::Flag && raw.texts.iter().any(String::is_empty) {
                errors.push(ConfigError::new(*key, raw, "is empty; leave the flag out instead"));
            }
            if raw.texts.len() > 1 && !key.setting().list {
                errors.push(ConfigError::new(*key, raw, "takes one value, not a list"));
            }
        }
        (Self { values, loads }, errors)
    }

    /// The settings of each `[[load]]` with its name; of the whole run, with no name, if there is none.
    /// What a load leaves out is as for the whole run; variables and flags win over all loads.
    #[must_use]
    pub fn loads(&self) -> Vec<(String, Self)> {
        if self.loads.is_empty() {
            return vec![(String::new(), self.clone())];
        }
        let of = |load: &LoadTable| {
            let mut own = Self { values: self.values.clone(), loads: Vec::new() };
            for (key, raw) in &load.values {
                if matches!(own.values[key].source, Source::Default | Source::File { .. }) {
                    own.values.insert(*key, raw.clone());
                }
            }
            (load.name.clone(), own)
        };
        self.loads.iter().map(of).collect()
    }

    /// The settings that were given, by name, as they apply; those of a `[[load]]` as `loads.NAME.SETTING`.
    /// Credentials in an address are left out.
    #[must_use]
    pub fn given(&self) -> BTreeMap<String, String> {
        let shown = |raw: &Raw| without_credentials(&raw.texts.join("; "));
        let is_given = |raw: &Raw| raw.source != Source::Default && raw.texts.iter().any(|t| !t.is_empty());
        let own = SETTINGS.iter().map(|(key, setting)| (setting.name.to_owned(), self.get(*key)));
        let of_loads = self.loads.iter().flat_map(|load| {
            load.values.iter().map(|(key, raw)| (format!("loads.{}.{}", load.name, key.setting().name), raw))
        });
        let given = own.chain(of_loads).filter(|(_, raw)| is_given(raw));
        given.map(|(name, raw)| (name, shown(raw))).collect()
    }

    /// Takes settings of the whole run back to their defaults.
    pub(crate) fn reset(&mut self, keys: &[Key]) {
        self.values.extend(keys.iter().map(|key| (*key, default(key.setting().default))));
    }

    /// The value of a setting as it was given.
    ///
    /// # Panics
    /// Never: every key has a value, its default at least.
    #[must_use]
    pub fn get(&self, key: Key) -> &Raw {
        &self.values[&key]
    }
}

/// An address without its user and password.
pub(crate) fn without_credentials(text: &str) -> String {
    match text.split_once("://") {
        Some((scheme, rest)) if !rest.contains(char::is_whitespace) => {
            let (host, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
            let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
            format!("{scheme}://{host}{path}")
        }
        _ => text.to_owned(),
    }
}

fn default(text: &str) -> Raw {
    Raw { texts: vec![text.to_owned()], source: Source::Default }
}

fn from_variables(
    variables: impl IntoIterator<Item = (String, String)>,
    errors: &mut Vec<ConfigError>,
) -> Vec<(Key, Raw)> {
    let mut values = Vec::new();
    for (variable, text) in variables {
        let Some(rest) = variable.strip_prefix("TICKGEN_") else {
            continue;
        };
        // Kubernetes gives every container TICKGEN_SERVICE_HOST, TICKGEN_PORT_9090_TCP and the like
        // when there is a service called tickgen.
        // A password is no setting, as those are shown in messages.
        if rest == "OPENSEARCH_PASSWORD" {
            continue;
        }
        if rest == "CONFIG" || rest.starts_with("SERVICE_") || rest == "PORT" || rest.starts_with("PORT_") {
            continue;
        }
        let name = rest.to_lowercase().replace('_', "-");
        match Key::named(&name) {
            Some(key) => {
                // `;` parts the values of a list, as thresholds have spaces and tickers commas.
                let texts = if key.setting().list {
                    text.split(';').map(str::to_owned).collect()
                } else {
                    vec![text]
                };
                values.push((key, Raw { texts, source: Source::Variable }));
            }
            None => errors.push(ConfigError::elsewhere(variable.clone(), unknown("variable", &name))),
        }
    }
    values
}

struct FileReader<'a> {
    path: &'a Path,
    text: &'a str,
    errors: &'a mut Vec<ConfigError>,
}

impl FileReader<'_> {
    fn line_at(&self, offset: usize) -> usize {
        1 + self.text.bytes().take(offset).filter(|&b| b == b'\n').count()
    }

    fn refuse(&mut self, offset: usize, problem: impl fmt::Display) {
        let place = format!("{}:{}", self.path.display(), self.line_at(offset));
        self.errors.push(ConfigError::elsewhere(place, problem));
    }

    /// The settings of the whole run and its `[[load]]` tables.
    fn read(&mut self) -> (Vec<(Key, Raw)>, Vec<LoadTable>) {
        let mut table = match DeTable::parse(self.text) {
            Ok(table) => table.into_inner(),
            Err(error) => {
                self.refuse(error.span().map_or(0, |span| span.start), error.message());
                return (Vec::new(), Vec::new());
            }
        };
        let loads = match table.remove("load").map(toml::Spanned::into_inner) {
            None => Vec::new(),
            Some(DeValue::Array(items)) => items.into_iter().collect(),
            Some(_) => {
                self.refuse(0, "load: expected [[load]] tables");
                Vec::new()
            }
        };
        let mut tables: Vec<LoadTable> = Vec::new();
        for (place, load) in loads.into_iter().enumerate() {
            let offset = load.span().start;
            let DeValue::Table(mut load) = load.into_inner() else {
                self.refuse(offset, "load: expected a [[load]] table");
                continue;
            };
            let name = match load.remove("name").map(toml::Spanned::into_inner) {
                None => format!("load-{}", place + 1),
                Some(DeValue::String(name)) if !name.is_empty() => name.into_owned(),
                Some(_) => {
                    self.refuse(offset, "name: expected a text");
                    continue;
                }
            };
            if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
                self.refuse(offset, format!("name {name:?}: expected letters, digits, - and _"));
            }
            if tables.iter().any(|other| other.name == name) {
                self.refuse(offset, format!("a second load with the name {name}"));
            }
            tables.push(LoadTable { name, values: self.settings(load, true) });
        }
        (self.settings(table, false), tables)
    }

    fn settings(&mut self, table: DeTable<'_>, in_load: bool) -> Vec<(Key, Raw)> {
        let mut values = Vec::new();
        for (name, value) in table {
            let offset = name.span().start;
            let name: &str = name.get_ref();
            let Some(key) = Key::named(name) else {
                self.refuse(offset, unknown("key", name));
                continue;
            };
            if in_load && !key.setting().is_per_load() {
                self.refuse(offset, format!("{name}: is for the whole run; set it above the first [[load]]"));
                continue;
            }
            let source = Source::File { path: self.path.to_owned(), line: self.line_at(offset), in_load };
            let texts = match value.get_ref() {
                DeValue::Array(items) => items.iter().map(|item| scalar(item.get_ref())).collect(),
                one => scalar(one).map(|text| vec![text]),
            };
            match texts {
                Some(texts) => values.push((key, Raw { texts, source })),
                None => self.refuse(
                    offset,
                    format!("{name}: expected {}, not a table or a date", key.setting().value),
                ),
            }
        }
        values
    }
}

fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Float(number) => Some(number.to_string()),
        DeValue::Boolean(truth) => Some(truth.to_string()),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

fn unknown(what: &str, name: &str) -> String {
    let closest = SETTINGS
        .iter()
        .map(|(_, setting)| (distance(name, setting.name), setting.name))
        .min()
        .filter(|(distance, _)| *distance <= 2);
    match closest {
        Some((_, near)) if what == "key" => format!("unknown key {name}; did you mean {near}?"),
        Some((_, near)) => format!(
            "unknown setting; did you mean {}?",
            Key::named(near).map_or_else(String::new, |k| k.setting().variable())
        ),
        None if what == "key" => format!("unknown key {name}; tickgen --help lists every setting"),
        None => "unknown setting; tickgen --help lists every setting".to_owned(),
    }
}

/// The Levenshtein distance, for suggestions.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, cb) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(ca != cb);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn layered(file: &str, variables: &[(&str, &str)], flags: &[(Key, &str)]) -> (Settings, Vec<String>) {
        let variables = variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let flags = flags
            .iter()
            .map(|(key, text)| (*key, Raw { texts: vec![(*text).to_owned()], source: Source::Flag }))
            .collect();
        let (settings, errors) = Settings::layer(Some((Path::new("c.toml"), file)), variables, flags);
        (settings, errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn flags_win_over_variables_over_the_file_over_defaults() {
        let (settings, errors) = layered(
            "rps = 1\nlinger = \"1ms\"\nseed = 1\n",
            &[("TICKGEN_RPS", "2"), ("TICKGEN_LINGER", "2ms"), ("PATH", "/bin")],
            &[(Key::Rps, "3")],
        );
        assert_eq!(errors, [] as [&str; 0]);
        let text = |key| settings.get(key).texts[0].as_str();
        assert_eq!(
            (text(Key::Rps), text(Key::Linger), text(Key::Seed), text(Key::Backoff)),
            ("3", "2ms", "1", "50ms")
        );
    }

    #[test]
    fn every_mistake_is_told_with_its_place() {
        let (_, mut errors) = layered(
            "rsp = 5\n\n# comment\nlinger = { a = 1 }\nzzz = 1\nrps = [1, 2]\n",
            &[("TICKGEN_LINGR", "1ms"), ("TICKGEN_SERVICE_HOST", "10.0.0.1"), ("TICKGEN_PORT", "tcp://")],
            &[],
        );
        errors.sort();
        assert_eq!(
            errors,
            [
                "TICKGEN_LINGR: unknown setting; did you mean TICKGEN_LINGER?",
                "c.toml:1: unknown key rsp; did you mean rps?",
                "c.toml:4: linger: expected TIME, not a table or a date",
                "c.toml:5: unknown key zzz; tickgen --help lists every setting",
                "c.toml:6: rps = 1, 2: takes one value, not a list",
            ]
        );
    }

    #[test]
    fn broken_toml_is_told_with_its_line() {
        let (_, errors) = layered("rps = 5\nlinger = \n", &[], &[]);
        assert_eq!(errors.len(), 1);
        assert!(errors[0].starts_with("c.toml:2: "), "{}", errors[0]);
    }

    #[test]
    fn lists_are_arrays_in_the_file() {
        let (settings, errors) =
            layered("tickers = [\"A,B\", \"C\"]\n", &[("TICKGEN_THRESHOLD", "a < 1;b < 2")], &[]);
        assert_eq!(errors, [] as [&str; 0]);
        assert_eq!(settings.get(Key::Tickers).texts, ["A,B", "C"]);
        assert_eq!(settings.get(Key::Threshold).texts, ["a < 1", "b < 2"]);
    }

    #[test]
    fn loads_overlay_the_file_and_flags_overlay_loads() {
        let (settings, errors) = layered(
            "rps = 1\nkeys = \"ticker\"\n[[load]]\nname = \"a\"\nrps = 2\n[[load]]\nseed = 5\n",
            &[],
            &[(Key::Seed, "9")],
        );
        assert_eq!(errors, [] as [&str; 0]);
        let texts: Vec<_> = settings
            .loads()
            .into_iter()
            .map(|(name, load)| {
                let text = |key| load.get(key).texts[0].clone();
                (name, text(Key::Rps), text(Key::Keys), text(Key::Seed))
            })
            .collect();
        let expected = [("a", "2", "ticker", "9"), ("load-2", "1", "ticker", "9")];
        assert_eq!(texts, expected.map(|(a, b, c, d)| (a.into(), b.into(), c.into(), d.into())));
    }

    #[test]
    fn mistakes_in_loads_are_told_with_their_place() {
        let (_, mut errors) = layered(
            "[[load]]\nname = \"a\"\nquiet = true\n[[load]]\nname = \"a\"\nrsp = 1\n[[load]]\nname = 5\n",
            &[],
            &[],
        );
        errors.sort();
        assert_eq!(
            errors,
            [
                "c.toml:3: quiet: is for the whole run; set it above the first [[load]]",
                "c.toml:4: a second load with the name a",
                "c.toml:6: unknown key rsp; did you mean rps?",
                "c.toml:7: name: expected a text",
            ]
        );
        assert!(layered("load = 5", &[], &[]).1[0].contains("expected [[load]] tables"));
    }

    proptest! {
        #[test]
        fn any_file_is_read_without_panic(text in "\\PC{0,80}") {
            let _ = layered(&text, &[], &[]);
        }
    }
}
