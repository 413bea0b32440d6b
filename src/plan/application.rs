use super::parse;
use super::reader::Reader;
use crate::admin::Probe;
use crate::settings::Key;

/// The application that the load is for: it begins when that is ready.
#[derive(Clone, Debug)]
pub struct Application {
    /// Answers with 2xx when it is ready.
    pub ready: Probe,
    /// The load ends when it answers no more.
    pub stop_when_gone: bool,
}

impl Reader<'_> {
    #[expect(clippy::option_option, reason = "outside: whether it could be read; inside: whether it is set")]
    pub(super) fn application(&mut self) -> Option<Option<Application>> {
        let ready = self.read_if_set(Key::StartWhen, Probe::parse)?;
        let stop_when_gone = self.read(Key::StopWhenGone, parse::switch)?;
        if stop_when_gone && ready.is_none() {
            self.refuse(Key::StopWhenGone, "needs --start-when, which says where to ask");
        }
        Some(ready.map(|ready| Application { ready, stop_when_gone }))
    }
}
