//! Wakes a lane at its time.
//!
//! Tokio's timers go by the millisecond and are rounded up twice, to a tick of its wheel and in the wait for
//! events: they come up to two milliseconds late. A timer of Linux' that is waited for like a socket comes within
//! a tenth of one. Tokio's stays beside it: for other systems, and for tests in paused time.

use tokio::time::{Instant, sleep_until};

#[derive(Debug)]
pub(super) struct Alarm {
    #[cfg(target_os = "linux")]
    timer: Option<kernel::Timer>,
}

impl Alarm {
    pub(super) fn new() -> Self {
        Self {
            // Without one the load is on time to two milliseconds, which its start lateness shows.
            #[cfg(target_os = "linux")]
            timer: kernel::Timer::new().ok(),
        }
    }

    /// Waits until then.
    pub(super) async fn at(&self, at: Instant) {
        #[cfg(target_os = "linux")]
        if let Some(timer) = &self.timer
            && timer.set(at.saturating_duration_since(Instant::now())).is_ok()
        {
            tokio::select! {
                () = timer.expires() => {}
                () = sleep_until(at) => {}
            }
            return;
        }
        sleep_until(at).await;
    }
}

#[cfg(target_os = "linux")]
mod kernel {
    use rustix::io::read;
    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };
    use std::io;
    use std::os::fd::OwnedFd;
    use std::time::Duration;
    use tokio::io::unix::AsyncFd;

    #[derive(Debug)]
    pub(super) struct Timer(AsyncFd<OwnedFd>);

    impl Timer {
        #[expect(
            deprecated,
            reason = "its successor is unsafe, for what an OwnedFd cannot do: be another file later"
        )]
        pub(super) fn new() -> io::Result<Self> {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
            AsyncFd::new(timer).map(Self)
        }

        /// Has it expire so long from now, in place of whenever it was to before.
        pub(super) fn set(&self, after: Duration) -> io::Result<()> {
            // Zero would disarm it.
            let after = after.max(Duration::from_nanos(1));
            let it_value = Timespec::try_from(after).map_err(io::Error::other)?;
            let none = Timespec { tv_sec: 0, tv_nsec: 0 };
            let spec = Itimerspec { it_interval: none, it_value };
            timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &spec)?;
            Ok(())
        }

        /// Waits until it expires.
        pub(super) async fn expires(&self) {
            loop {
                let Ok(mut ready) = self.0.readable().await else { return std::future::pending().await };
                // It may have expired before it was set anew: then there is nothing to read.
                let read = read(&self.0, &mut [0; 8]);
                ready.clear_ready();
                if read.is_ok() {
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn an_alarm_is_not_early_and_can_be_set_again() {
        let alarm = Alarm::new();
        let start = Instant::now();
        for millis in [3, 0, 5, 1] {
            let at = Instant::now() + Duration::from_millis(millis);
            alarm.at(at).await;
            assert!(Instant::now() >= at);
        }
        assert!(start.elapsed() >= Duration::from_millis(9));
    }

    #[tokio::test(start_paused = true)]
    async fn an_alarm_goes_by_tokios_time_where_that_is_paused() {
        let at = Instant::now() + Duration::from_hours(1);
        let alarm = Alarm::new();
        alarm.at(at).await;
        assert!(Instant::now() >= at);
    }
}
