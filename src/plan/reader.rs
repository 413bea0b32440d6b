use crate::config::{ConfigError, Raw, Settings, Source};
use crate::settings::Key;

/// Reads settings one by one; what is wrong is gathered.
pub(super) struct Reader<'a> {
    pub(super) settings: &'a Settings,
    pub(super) errors: Vec<ConfigError>,
}

impl Reader<'_> {
    pub(super) fn raw(&self, key: Key) -> &Raw {
        self.settings.get(key)
    }

    pub(super) fn is_set(&self, key: Key) -> bool {
        let raw = self.raw(key);
        raw.source != Source::Default && raw.texts.iter().any(|text| !text.is_empty())
    }

    /// Whether a setting is set to other than its default where it counts beside `other`: at least as
    /// specifically.
    pub(super) fn is_set_beside(&self, key: Key, other: Key) -> bool {
        let default = [key.setting().default];
        self.is_set(key)
            && self.raw(key).texts != default
            && self.raw(key).source.rank() >= self.raw(other).source.rank()
    }

    /// A value that may be absent, as text.
    pub(super) fn text(&self, key: Key) -> Option<String> {
        self.raw(key).texts.first().filter(|text| !text.is_empty()).cloned()
    }

    pub(super) fn refuse(&mut self, key: Key, problem: impl std::fmt::Display) {
        let error = ConfigError::new(key, self.raw(key), problem);
        if !self.errors.contains(&error) {
            self.errors.push(error);
        }
    }

    /// A value that must be there; `None` if it is wrong, which is noted.
    pub(super) fn read<T>(&mut self, key: Key, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let text = self.raw(key).texts.first().cloned().unwrap_or_default();
        parse(text.trim()).map_err(|problem| self.refuse(key, problem)).ok()
    }

    /// A value that may be absent.
    #[expect(clippy::option_option, reason = "outside: whether it could be read; inside: whether it is set")]
    pub(super) fn read_if_set<T>(
        &mut self,
        key: Key,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Option<T>> {
        match self.text(key) {
            Some(_) => self.read(key, parse).map(Some),
            None => Some(None),
        }
    }

    /// The values of a list; empty texts are passed over.
    pub(super) fn read_all<T>(
        &mut self,
        key: Key,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let texts = self.raw(key).texts.clone();
        let read: Vec<Result<T, String>> =
            texts.iter().map(|text| text.trim()).filter(|text| !text.is_empty()).map(parse).collect();
        let mut values = Vec::new();
        let mut sound = true;
        for one in read {
            match one {
                Ok(value) => values.push(value),
                Err(problem) => {
                    self.refuse(key, problem);
                    sound = false;
                }
            }
        }
        sound.then_some(values)
    }
}
