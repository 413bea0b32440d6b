use super::*;
use crate::observe::Percentiles;
use crate::terminal::view::{Load, Records, Second, Shard, Times, Way};
use proptest::prelude::*;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::Color;
use std::fmt::Write as _;
use std::path::Path;

const COLOURED: Ink = Ink { colours: true };

fn drawn(view: &View, (width, height): (u16, u16), ink: Ink) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, view, ink)).unwrap();
    terminal.backend().buffer().clone()
}

/// The rows of a frame, and below them what of each is coloured.
fn text(buffer: &Buffer) -> String {
    let (mut text, mut colours) = (String::new(), String::new());
    for row in 0..buffer.area.height {
        let mut line = String::new();
        let mut runs: Vec<(Color, u16, String)> = Vec::new();
        for column in 0..buffer.area.width {
            let cell = &buffer[(column, row)];
            line.push_str(cell.symbol());
            match runs.last_mut() {
                Some((colour, from, run))
                    if *colour == cell.fg
                        && usize::from(*from) + run.chars().count() == usize::from(column) =>
                {
                    run.push_str(cell.symbol());
                }
                _ => runs.push((cell.fg, column, cell.symbol().to_owned())),
            }
        }
        writeln!(text, "{}", line.trim_end()).unwrap();
        for (colour, from, run) in runs.iter().filter(|(colour, ..)| *colour != Color::Reset) {
            writeln!(colours, "{row}:{from} {colour} {run}").unwrap();
        }
    }
    format!("{text}{}\n{colours}", "=".repeat(usize::from(buffer.area.width)))
}

/// Compares with the frame that is kept; `UPDATE_FRAMES=1` keeps this one.
fn assert_frame(name: &str, view: &View, size: (u16, u16)) {
    let frame = text(&drawn(view, size, COLOURED));
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/terminal/frame/frames/{name}.txt"));
    if std::env::var_os("UPDATE_FRAMES").is_some() {
        std::fs::write(&file, &frame).unwrap();
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(frame, kept, "{name} differs from {}; UPDATE_FRAMES=1 keeps it:\n{frame}", file.display());
}

fn percentiles(p50: f64) -> Percentiles {
    Percentiles { p50, p90: p50 * 1.7, p99: p50 * 2.4, p999: p50 * 3.1, max: p50 * 40.0 }
}

fn line(level: Level, text: &str) -> LogLine {
    LogLine { level, text: text.to_owned() }
}

/// A run of a minute after 24 s: 5,000/s, then 5,500/s; two seconds with throttles, one with drops.
fn usual() -> View {
    let second = |n: u32| Second {
        at: f64::from(n),
        acked: match n {
            ..=12 => 4980.0 + f64::from(n % 3) * 10.0,
            13 | 14 => 4200.0,
            _ => 5490.0,
        },
        target: Some(if n <= 12 { 5000.0 } else { 5500.0 }),
        throttled: if n == 13 || n == 14 || n == 24 { 120.0 } else { 0.0 },
        lost: if n == 14 { 30.0 } else { 0.0 },
    };
    let shard = |id: u64| Shard {
        stream: None,
        id,
        accepted: 500.0 + id as f64 * 80.0,
        throttled: if id == 5 { 120.0 } else { 0.0 },
        limit: Some(986.0),
    };
    View {
        run_id: "b5f31f5c".into(),
        to: "ticks".into(),
        phase: Phase::Running,
        elapsed: 24.2,
        left: Some(35.8),
        rate: second(24),
        history: (1..=24).map(second).collect(),
        recent: Times { response: Some(percentiles(7.61)), service: Some(percentiles(1.614)) },
        recent_s: 5.1,
        whole: Times { response: Some(percentiles(8.0)), service: Some(percentiles(1.7)) },
        records: Records {
            scheduled: 125_500,
            acked: 125_391,
            dropped: 30,
            throttled_entries: 360,
            retried_entries: 360,
            ..Records::default()
        },
        way: Way { backlog_records: 61, in_flight_requests: 2, in_flight_bytes: 18_204 },
        shards: (0..6).map(shard).collect(),
        loads: Vec::new(),
        log: vec![
            line(Level::INFO, "12:00:01 offering the load run=\"b5f31f5c\" shards=6"),
            line(Level::WARN, "12:00:14 the shard map could not be refreshed error=timed out"),
            line(Level::ERROR, "12:00:15 the admin server ended"),
        ],
        quitting: false,
        help: false,
    }
}

/// Nothing has happened yet, and nothing says when it ends.
fn beginning() -> View {
    View { run_id: "b5f31f5c".into(), to: "ticks".into(), ..View::default() }
}

fn closed_loop() -> View {
    let mut view = usual();
    view.rate.target = None;
    view.history.iter_mut().for_each(|second| second.target = None);
    (view.left, view.phase) = (None, Phase::Draining);
    view.left = Some(8.0);
    view.quitting = true;
    view
}

fn several_loads() -> View {
    let load = |n: u64| Load {
        name: format!("load-{n}"),
        rate: Second {
            acked: 100.0 * n as f64,
            target: (n > 1).then_some(200.0),
            throttled: 3.0,
            ..Second::default()
        },
        p99: (n > 0).then_some(12.5),
        lost: n * 7,
    };
    View { to: "3 streams".into(), loads: (0..20).map(load).collect(), ..usual() }
}

/// As many shards, of which a tenth is throttled.
fn shards(count: u64) -> Vec<Shard> {
    let shard = |id| Shard {
        stream: None,
        id,
        accepted: (id * 37 % 987) as f64,
        throttled: if id % 10 == 7 { 5.0 } else { 0.0 },
        limit: Some(986.0),
    };
    (0..count).map(shard).collect()
}

#[test]
fn frames_are_as_they_were_looked_at() {
    assert_frame("usual-120x34", &usual(), (120, 34));
    assert_frame("usual-80x24", &usual(), (80, 24));
    assert_frame("usual-40x12", &usual(), (40, 12));
    assert_frame("beginning-80x24", &beginning(), (80, 24));
    assert_frame("closed-loop-100x20", &closed_loop(), (100, 20));
    assert_frame("several-loads-120x40", &several_loads(), (120, 40));
    assert_frame("paused-80x14", &View { phase: Phase::Paused, ..usual() }, (80, 14));
    assert_frame("help-80x24", &View { help: true, ..usual() }, (80, 24));
    assert_frame("1000-shards-120x34", &View { shards: shards(1000), ..usual() }, (120, 34));
    assert_frame("1000-shards-40x12", &View { shards: shards(1000), ..usual() }, (40, 12));
}

#[test]
fn colour_is_for_throttles_and_losses_alone() {
    let coloured = |view: &View, ink| {
        let buffer = drawn(view, (160, 50), ink);
        buffer.content().iter().filter(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset).count()
    };
    assert!(coloured(&usual(), COLOURED) > 0);
    assert_eq!(coloured(&usual(), Ink { colours: false }), 0);
    let mut calm = usual();
    calm.history.iter_mut().for_each(|second| (second.throttled, second.lost) = (0.0, 0.0));
    calm.shards.iter_mut().for_each(|shard| shard.throttled = 0.0);
    calm.records = Records { scheduled: 9, acked: 9, ..Records::default() };
    calm.log.truncate(1);
    assert_eq!(coloured(&calm, COLOURED), 0);
}

#[test]
fn every_shard_is_in_the_frame() {
    for count in [1, 2, 7, 60, 1000] {
        let mut view = View { shards: shards(count), ..usual() };
        view.shards.iter_mut().for_each(|shard| (shard.throttled, shard.accepted) = (0.0, 100.0));
        // The last one stands out, wherever it is.
        view.shards.last_mut().unwrap().throttled = 50.0;
        for size in [(40, 12), (80, 24), (200, 60)] {
            let buffer =
                drawn(&View { history: Vec::new(), log: Vec::new(), ..view.clone() }, size, COLOURED);
            let bars = |symbol: &str| symbol == "━" || "▁▂▃▄▅▆▇█".contains(symbol);
            let marked = buffer.content().iter().any(|cell| cell.fg == Color::Yellow && bars(cell.symbol()));
            assert!(marked, "{count} shards at {size:?}:\n{}", text(&buffer));
        }
    }
}

fn number() -> impl Strategy<Value = f64> {
    prop_oneof![Just(0.0), 0.0..1e7_f64, Just(f64::MAX), Just(f64::NAN), Just(f64::INFINITY)]
}

fn any_second() -> impl Strategy<Value = Second> {
    (number(), number(), prop::option::of(number()), number(), number())
        .prop_map(|(at, acked, target, throttled, lost)| Second { at, acked, target, throttled, lost })
}

fn any_shard() -> impl Strategy<Value = Shard> {
    (prop::option::of(".{0,12}"), any::<u64>(), number(), number(), prop::option::of(number()))
        .prop_map(|(stream, id, accepted, throttled, limit)| Shard { stream, id, accepted, throttled, limit })
}

fn any_view() -> impl Strategy<Value = View> {
    let times =
        prop::option::of(number()).prop_map(|p50| Times { response: p50.map(percentiles), service: None });
    let load = (".{0,20}", any_second(), prop::option::of(number()), any::<u64>())
        .prop_map(|(name, rate, p99, lost)| Load { name, rate, p99, lost });
    let phases =
        [Phase::Warmup, Phase::Running, Phase::Paused, Phase::Draining, Phase::Settled, Phase::ReadingBack];
    (
        (
            ".{0,30}",
            prop::sample::select(phases.to_vec()),
            number(),
            prop::option::of(number()),
            any::<bool>(),
        ),
        prop::collection::vec(any_second(), 0..40),
        (times, number()),
        prop::collection::vec(any_shard(), 0..50),
        prop::collection::vec(load, 0..6),
        prop::collection::vec(".{0,60}", 0..8),
        any::<u64>(),
    )
        .prop_map(
            |((to, phase, elapsed, left, help), history, (whole, recent_s), shards, loads, log, n)| View {
                run_id: "b5f31f5c".into(),
                rate: history.last().copied().unwrap_or_default(),
                recent: whole,
                records: Records {
                    scheduled: n,
                    acked: n,
                    failed: n,
                    possible_duplicates: n,
                    ..Records::default()
                },
                way: Way { backlog_records: n, in_flight_requests: n, in_flight_bytes: n },
                log: log.iter().map(|text| line(Level::WARN, text)).collect(),
                quitting: help,
                to,
                phase,
                elapsed,
                left,
                help,
                history,
                recent_s,
                whole,
                shards,
                loads,
            },
        )
}

proptest! {
    #[test]
    fn any_view_is_drawn_at_any_size(view in any_view(), width in 1_u16..250, height in 1_u16..90) {
        let buffer = drawn(&view, (width, height), COLOURED);
        prop_assert_eq!(buffer.area.width, width);
    }

    #[test]
    fn the_keys_are_always_there(view in any_view(), width in 40_u16..250, height in 2_u16..90) {
        let text = text(&drawn(&view, (width, height), COLOURED));
        prop_assert!(text.contains("+ - rate") && text.contains("? help"), "{}", text);
    }

    #[test]
    fn rows_are_shared_out_and_no_more(height in 0_u16..200, least in prop::collection::vec((0_u16..5, 0_u16..30), 1..7)) {
        let blocks: Vec<_> = least.iter().map(|(least, more)| (Block::Log, *least, least + more)).collect();
        let shared = share(height, &blocks);
        let best: u16 = blocks.iter().map(|(_, _, best)| best).sum();
        prop_assert_eq!(shared.iter().sum::<u16>(), height.min(best));
    }
}
