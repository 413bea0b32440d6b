//! What is told of a run, and where.

use super::reader::Reader;
use super::{Ui, parse};
use crate::admin::Token;
use crate::load::Nanos;
use crate::observe::Threshold;
use crate::settings::Key;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// What is told, and where.
#[derive(Clone, Debug)]
pub struct Output {
    /// Where the JSON summary goes.
    pub summary: Option<WriteTo>,
    /// Where the HTML report goes.
    pub report: Option<PathBuf>,
    /// Where the histogram log goes, and how often it gets a line.
    pub hdr_log: Option<(PathBuf, Duration)>,
    /// What must hold at the end.
    pub thresholds: Vec<Threshold>,
    /// The run ends as soon as a threshold is missed, once it was measured for so long.
    pub abort_after: Option<Nanos>,
    /// Where the admin server listens.
    pub admin_addr: Option<SocketAddr>,
    /// Where the metrics are sent by OpenTelemetry's protocol.
    pub otlp: Option<String>,
    /// What whoever steers through it must show.
    pub admin_token: Option<Token>,
    /// Names by which it may be asked, besides localhost and addresses.
    pub admin_hosts: Vec<String>,
    /// How long it waits at most for a last scrape after the end.
    pub admin_linger: Duration,
    /// How the run is shown meanwhile.
    pub ui: Ui,
    /// No progress and no text summary.
    pub quiet: bool,
    /// Least severe log lines.
    pub log_level: tracing::Level,
    /// Log lines as JSON.
    pub log_json: bool,
    /// Whether the config file is read again when it changes.
    pub watch_config: bool,
}

/// Where something is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteTo {
    /// To stdout.
    Stdout,
    /// To a file.
    File(PathBuf),
}

impl WriteTo {
    /// A file, or `-` for stdout.
    fn read_dash(text: String) -> Self {
        if text == "-" { Self::Stdout } else { Self::File(text.into()) }
    }

    /// A file, or the word `stdout`.
    pub(super) fn read_named(text: String) -> Self {
        if text == "stdout" { Self::Stdout } else { Self::File(text.into()) }
    }
}

impl Reader<'_> {
    pub(super) fn output(&mut self) -> Option<Output> {
        let thresholds =
            self.read_all(Key::Threshold, |text| Threshold::parse(text).map_err(|e| e.to_string()));
        let admin_addr = self.read_if_set(Key::AdminAddr, parse::address);
        let otlp = self.read_if_set(Key::Otlp, parse::otlp);
        let admin_token = self.read_if_set(Key::AdminTokenFile, |path| Token::read(path.as_ref()));
        let admin_hosts = self.read_all(Key::AdminHost, parse::host_name);
        let admin_linger = self.read(Key::AdminLinger, parse::time);
        let lingers = admin_linger.is_some_and(|time| time > 0);
        for (key, asked) in [
            (Key::AdminTokenFile, self.is_set(Key::AdminTokenFile)),
            (Key::AdminHost, self.is_set(Key::AdminHost)),
            (Key::AdminLinger, lingers),
        ] {
            if asked && !self.is_set(Key::AdminAddr) {
                self.refuse(key, "is for the admin server; set --admin-addr");
            }
        }
        let ui = self.read(Key::Ui, Ui::parse);
        let quiet = self.read(Key::Quiet, parse::switch);
        let log_level = self.read(Key::LogLevel, parse::level);
        let log_json = self.read(Key::LogFormat, parse::log_format);
        let watch_config = self.read(Key::WatchConfig, parse::switch);
        let abort_after = self.read_if_set(Key::AbortOnThreshold, parse::after);
        let hdr_interval = self.read(Key::HdrInterval, parse::at_least_100ms);
        for key in [Key::Report, Key::HdrLog] {
            if self.text(key).as_deref() == Some("-") {
                self.refuse(key, "name a file: of the results only the summary goes to stdout");
            }
        }
        if self.text(Key::To).as_deref() == Some("-") {
            self.refuse(Key::To, "name a file, or stdout by this word");
        }
        let report = self.text(Key::Report).map(PathBuf::from);
        let hdr_log = self.text(Key::HdrLog).map(PathBuf::from);
        let summary = self.text(Key::Summary).map(WriteTo::read_dash);
        if summary == Some(WriteTo::Stdout) && self.text(Key::To).as_deref() == Some("stdout") {
            self.refuse(Key::Summary, "--to has stdout; name a file for the summary");
        }
        let hdr_interval = Duration::from_nanos(hdr_interval?);
        Some(Output {
            summary,
            report,
            hdr_log: hdr_log.map(|file| (file, hdr_interval)),
            thresholds: thresholds?,
            abort_after: abort_after?,
            admin_addr: admin_addr?,
            otlp: otlp?,
            admin_token: admin_token?,
            admin_hosts: admin_hosts?,
            admin_linger: Duration::from_nanos(admin_linger?),
            ui: ui?,
            quiet: quiet?,
            log_level: log_level?,
            log_json: log_json?,
            watch_config: watch_config?,
        })
    }
}
