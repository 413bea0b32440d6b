/// How a run is shown while it is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ui {
    /// Whoever carries out the plan decides; undecided it is [`Ui::Plain`].
    Auto,
    /// By a line a second.
    Plain,
    /// By a live view on the terminal that stderr is.
    Live,
}

impl Ui {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "plain" => Ok(Self::Plain),
            "live" => Ok(Self::Live),
            _ => Err("expected auto, plain or live".into()),
        }
    }
}
