//! The config file of a run that is on, read again: on SIGHUP, or when it changes.

use super::engines::{self, Limited};
use super::signals::{Hangup, Hangups};
use crate::config::{ConfigError, Raw, Settings};
use crate::observe::set_log_level;
use crate::plan::{Change, Changes, Plan};
use crate::producer::{Bounds, Room, ShardLimiting, SteerError, Steering};
use crate::settings::Key;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// How often a watched file is looked at. It is read, not its time asked for: a `ConfigMap` is a link to a link
/// that is swapped, and a file may be written twice in one tick of its file system's clock.
const LOOK: Duration = Duration::from_millis(500);

/// The longest file that is read, in bytes.
const LONGEST: u64 = 1 << 20;

/// Where a run's settings came from.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The config file.
    pub path: PathBuf,
    /// What it held when the run was planned.
    pub text: String,
    /// The `TICKGEN_*` variables.
    pub variables: Vec<(String, String)>,
    /// The settings given as flags.
    pub flags: Vec<(Key, Raw)>,
}

/// Reads a run's config file again.
#[derive(Debug)]
pub struct Reload {
    sources: Sources,
    hangups: Hangups,
    looks: Option<Interval>,
    // What was last applied, and what was seen since, or why it could not be read.
    settings: Settings,
    seen: Result<String, String>,
}

impl Reload {
    /// On SIGHUP, and if asked for (`watch`) when the file changes.
    ///
    /// # Errors
    /// If the signal cannot be listened for.
    pub fn new(sources: Sources, settings: Settings, watch: bool) -> std::io::Result<Self> {
        let looks = watch.then(|| {
            let mut looks = interval(LOOK);
            looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            looks
        });
        let seen = Ok(sources.text.clone());
        Ok(Self { sources, hangups: Hangups::listen()?, looks, settings, seen })
    }

    /// The changes, once the file is to be read and has some. What is wrong with it is told, and waited out.
    async fn next(&mut self) -> Changes {
        loop {
            if self.is_due().await
                && let Some(changes) = self.read().await
            {
                return changes;
            }
        }
    }

    /// Waits for SIGHUP or a look; tells whether the file is to be read anew. A file is left alone until two
    /// looks in a row find the same in it: it may be under the pen.
    async fn is_due(&mut self) -> bool {
        let look = async {
            match &mut self.looks {
                Some(looks) => looks.tick().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            hangup = self.hangups.next() => {
                // That ends the run.
                if hangup == Hangup::Gone {
                    return false;
                }
                tracing::info!(file = %self.sources.path.display(), "SIGHUP: reading the settings again");
                self.seen = self.text().await;
                return true;
            }
            _ = look => {}
        }
        let seen = self.text().await;
        let before = std::mem::replace(&mut self.seen, seen);
        let changed = self.seen.as_ref().map_or(true, |text| *text != self.sources.text);
        if self.seen == before && changed && self.seen.is_ok() {
            tracing::info!(file = %self.sources.path.display(), "the settings have changed");
            return true;
        }
        if self.seen != before && self.seen.is_err() {
            return true;
        }
        false
    }

    async fn text(&self) -> Result<String, String> {
        let path = self.sources.path.clone();
        let text = tokio::task::spawn_blocking(move || text_of(&path)).await;
        text.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    }

    /// What differs from what was last applied; `None` if the file is no good, which is told.
    async fn read(&mut self) -> Option<Changes> {
        let text = match &self.seen {
            Ok(text) => text.clone(),
            Err(error) => {
                let place = self.sources.path.display().to_string();
                warn_all(&[ConfigError::elsewhere(place, error)]);
                return None;
            }
        };
        self.sources.text.clone_from(&text);
        let Sources { path, variables, flags, .. } = self.sources.clone();
        // Templates are files, and may be slow to come.
        let planned = tokio::task::spawn_blocking(move || plan(&path, &text, variables, flags)).await;
        match planned.ok()? {
            Ok((settings, plan)) => {
                let changes = Changes::between(&self.settings, &settings, &plan);
                if !changes.other_loads {
                    self.settings = settings;
                }
                Some(changes)
            }
            Err(mistakes) => {
                warn_all(&mistakes);
                None
            }
        }
    }
}

/// The text of a regular file: to read a pipe would wait for who writes to it, for ever.
fn text_of(path: &Path) -> std::io::Result<String> {
    let refused = |why: &str| Err(std::io::Error::other(why.to_owned()));
    if !std::fs::metadata(path)?.is_file() {
        return refused("not a regular file, which alone is read again");
    }
    let mut text = String::new();
    std::fs::File::open(path)?.take(LONGEST + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LONGEST { refused("longer than 1 MiB") } else { Ok(text) }
}

fn plan(
    path: &Path,
    text: &str,
    variables: Vec<(String, String)>,
    flags: Vec<(Key, Raw)>,
) -> Result<(Settings, Plan), Vec<ConfigError>> {
    let (settings, mut mistakes) = Settings::layer(Some((path, text)), variables, flags);
    match Plan::new(&settings, 0) {
        Ok(plan) if mistakes.is_empty() => return Ok((settings, plan)),
        Ok(_) => {}
        Err(more) => mistakes.extend(more),
    }
    Err(mistakes)
}

fn warn_all(mistakes: &[ConfigError]) {
    for mistake in mistakes {
        tracing::warn!(%mistake, "the settings are not applied; the run goes on as it was");
    }
}

/// What the changes are applied to.
pub(super) struct Applies {
    pub(super) steering: Steering,
    pub(super) room: Arc<Room>,
    /// What bounds requests besides `--max-requests`.
    pub(super) most_requests: usize,
    /// How each load is limited on its shards, and what that depends on besides.
    pub(super) limits: Vec<(Limited, ShardLimiting)>,
    pub(super) quiet: bool,
}

/// Applies what changes, as long as the run lasts.
pub(super) async fn keep(mut reload: Reload, mut to: Applies) {
    loop {
        let changes = reload.next().await;
        for refused in &changes.refused {
            tracing::warn!(%refused, "a setting is not applied");
        }
        if changes.applied.is_empty() {
            tracing::info!("no setting was applied");
        }
        for (change, line) in changes.applied {
            match to.apply(change) {
                Ok(()) => tracing::info!(setting = line, "applied"),
                Err(error) => tracing::warn!(setting = line, %error, "a setting is not applied"),
            }
        }
    }
}

impl Applies {
    /// Limits a load anew, and with it those that went to the same stream: they may share limits now, or no more.
    fn limit(&self, load: usize) -> Result<(), SteerError> {
        let stream = self.limits[load].0.stream;
        let all = engines::limits(&self.limits);
        for place in (0..all.len()).filter(|place| self.limits[*place].0.stream == stream) {
            let limited = self.steering.set_limits(place, &all[place]);
            // Another load may be over.
            if place == load {
                limited?;
            }
        }
        Ok(())
    }

    fn apply(&mut self, change: Change) -> Result<(), SteerError> {
        match change {
            Change::Offer(load, offered) => self.steering.offer(load, &offered)?,
            Change::ShardLimit(load, limit) => {
                self.limits[load].1 = limit;
                self.limit(load)?;
            }
            Change::Bounds(bounds) => {
                let requests = bounds.requests.min(self.most_requests);
                self.room.set_bounds(Bounds { requests, ..bounds });
            }
            Change::LogLevel(level) => {
                set_log_level(if self.quiet { level.min(tracing::Level::WARN) } else { level });
            }
        }
        Ok(())
    }
}
