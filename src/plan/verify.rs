use super::reader::Reader;
use super::{Output, ReadBack, parse};
use crate::config::{ConfigError, Raw, Settings, Source};
use crate::kinesis::protocol::StreamRef;
use crate::observe::Threshold;
use crate::settings::Key;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// What `tickgen verify` does.
#[derive(Clone, Debug)]
pub struct VerifyPlan {
    /// What is known of the run.
    pub run: RunKnown,
    /// The longest wait for its summary.
    pub summary_wait: Duration,
    /// The stream to read in place of the run's own.
    pub stream: Option<StreamRef>,
    /// The service's address in place of AWS's own.
    pub endpoint_url: Option<String>,
    /// The AWS region.
    pub region: Option<String>,
    /// The profile of the AWS config files.
    pub profile: Option<String>,
    /// Connections to a stream open at once.
    pub max_connections: usize,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Longest wait for the answer to one attempt.
    pub attempt_timeout: Duration,
    /// How streams are read.
    pub read_back: ReadBack,
    /// The index whose documents are read in place of streams.
    pub index: Option<IndexPlan>,
    /// What is told, and where.
    pub output: Output,
}

/// What is known of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunKnown {
    /// What its summary says.
    Summary {
        /// Where it is, or will be.
        file: PathBuf,
        /// The run's id, if that is known before.
        id: Option<u32>,
    },
    /// Nothing but its id.
    Id(u32),
}

impl RunKnown {
    /// The run's id, if it is known before the summary is there.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        match self {
            Self::Summary { id, .. } => *id,
            Self::Id(id) => Some(*id),
        }
    }
}

/// An index of `OpenSearch` and how its documents are waited for.
#[derive(Clone, Debug)]
pub struct IndexPlan {
    /// The address of `OpenSearch`, without a slash at its end.
    pub url: String,
    /// The name of the index.
    pub name: String,
    /// Who asks, if that is told by basic authentication.
    pub login: Option<Login>,
    /// Documents have settled when none has come for so long.
    pub settle: Duration,
    /// The longest wait for that.
    pub timeout: Duration,
}

/// A user and their password.
#[derive(Clone, Debug)]
pub struct Login {
    /// The user.
    pub user: String,
    /// The password.
    pub password: Password,
}

/// A password; it is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(pub String);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(not shown)")
    }
}

/// The variable with the password, which is no setting: those are shown in messages.
const PASSWORD: &str = "TICKGEN_OPENSEARCH_PASSWORD";

impl VerifyPlan {
    /// Gives the settings their meaning.
    ///
    /// # Errors
    /// Every mistake that can be seen before anything is read.
    pub fn new(settings: &Settings) -> Result<Self, Vec<ConfigError>> {
        let mut reader = Reader { settings, errors: Vec::new() };
        let plan = reader.verification();
        plan.filter(|_| reader.errors.is_empty()).ok_or(reader.errors)
    }
}

impl Reader<'_> {
    fn verification(&mut self) -> Option<VerifyPlan> {
        let run = self.run_known();
        let summary_wait = self.read(Key::VerifySummaryWait, parse::time);
        let index = self.index();
        let endpoint_url = self.read_if_set(Key::EndpointUrl, parse::url);
        let max_connections = self.read(Key::MaxConnections, parse::between(1, 10_000));
        let connect_timeout = self.read(Key::ConnectTimeout, parse::positive_time);
        let attempt_timeout = self.read(Key::AttemptTimeout, parse::positive_time);
        let read_back = self.read_back();
        let output = self.output();
        let output = output.map(|output| self.of_proof_alone(output));
        let plan = VerifyPlan {
            run: run?,
            summary_wait: Duration::from_nanos(summary_wait?),
            stream: self.text(Key::Stream).map(|stream| StreamRef::parse(&stream)),
            endpoint_url: endpoint_url?,
            region: self.text(Key::Region),
            profile: self.text(Key::Profile),
            max_connections: usize::try_from(max_connections?).ok()?,
            connect_timeout: Duration::from_nanos(connect_timeout?),
            attempt_timeout: Duration::from_nanos(attempt_timeout?),
            read_back: read_back?,
            index: index?,
            output: output?,
        };
        if plan.index.is_none() && matches!(plan.run, RunKnown::Id(_)) && plan.stream.is_none() {
            self.refuse(Key::VerifyRun, "needs --stream, or --opensearch and --index: where to look for it");
        }
        Some(plan)
    }

    fn run_known(&mut self) -> Option<RunKnown> {
        let id = self.read_if_set(Key::VerifyRun, parse::run_id)?;
        match (self.text(Key::VerifySummaryOf), id) {
            (Some(file), id) => Some(RunKnown::Summary { file: file.into(), id }),
            (None, Some(id)) => Some(RunKnown::Id(id)),
            (None, None) => {
                self.refuse(
                    Key::VerifySummaryOf,
                    "is needed: the summary that the run wrote to --summary FILE",
                );
                None
            }
        }
    }

    #[expect(clippy::option_option, reason = "outside: whether it could be read; inside: whether it is set")]
    fn index(&mut self) -> Option<Option<IndexPlan>> {
        let url = self.opensearch()?;
        let name = self.read_if_set(Key::VerifyIndex, |text| {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
            let one = text.bytes().all(plain) && !text.starts_with(['-', '_', '.']);
            if one { Ok(text.to_owned()) } else { Err("expected the name of one index".to_owned()) }
        })?;
        let login = self.login();
        let settle = self.read(Key::VerifySettle, parse::positive_time);
        let timeout = self.read(Key::VerifySettleTimeout, parse::positive_time);
        match (url, name) {
            (Some(url), Some(name)) => Some(Some(IndexPlan {
                url,
                name,
                login: login?,
                settle: Duration::from_nanos(settle?),
                timeout: Duration::from_nanos(timeout?),
            })),
            (None, None) => Some(None),
            (Some(_), None) => {
                self.refuse(Key::VerifyOpensearch, "needs --index, which of its indexes to read");
                None
            }
            (None, Some(_)) => {
                self.refuse(Key::VerifyIndex, "needs --opensearch, which says where it is");
                None
            }
        }
    }

    #[expect(clippy::option_option, reason = "outside: whether it could be read; inside: whether it is set")]
    fn opensearch(&mut self) -> Option<Option<String>> {
        let Some(text) = self.text(Key::VerifyOpensearch) else { return Some(None) };
        match parse::opensearch(text.trim()) {
            Ok(url) => Some(Some(url)),
            Err(problem) => {
                let source = self.raw(Key::VerifyOpensearch).source.clone();
                let shown = Raw { texts: vec![parse::bare(&text)], source };
                self.errors.push(ConfigError::new(Key::VerifyOpensearch, &shown, problem));
                None
            }
        }
    }

    #[expect(clippy::option_option, reason = "outside: whether it could be read; inside: whether it is set")]
    fn login(&mut self) -> Option<Option<Login>> {
        let of_file = self.read_if_set(Key::VerifyOpensearchPasswordFile, |path| {
            let text = std::fs::read_to_string(path).map_err(parse::told)?;
            Ok(Password(text.trim_end_matches(['\r', '\n']).to_owned()))
        })?;
        let of_variable = std::env::var(PASSWORD).ok().filter(|text| !text.is_empty()).map(Password);
        let Some(user) = self.text(Key::VerifyOpensearchUser) else {
            if of_file.is_some() {
                self.refuse(Key::VerifyOpensearchPasswordFile, "needs --opensearch-user");
            } else if of_variable.is_some() && self.is_set(Key::VerifyOpensearch) {
                self.errors.push(ConfigError::elsewhere(PASSWORD, "needs --opensearch-user"));
            }
            return Some(None);
        };
        if let Some(password) = of_file.or(of_variable) {
            return Some(Some(Login { user, password }));
        }
        self.refuse(
            Key::VerifyOpensearchUser,
            format!("needs a password, in {PASSWORD} or --opensearch-password-file"),
        );
        None
    }

    /// Leaves out the thresholds that are for runs, which may stand in a file or a variable.
    fn of_proof_alone(&mut self, mut output: Output) -> Output {
        let of_runs = output.thresholds.iter().find(|threshold| !threshold.is_of_proof());
        if let Some(other) = of_runs.filter(|_| self.raw(Key::Threshold).source == Source::Flag) {
            self.refuse(Key::Threshold, format!("{}: is of a run; of a proof are verify.*", other.text()));
        }
        output.thresholds.retain(Threshold::is_of_proof);
        output
    }
}
