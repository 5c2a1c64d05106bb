//! One clock for everything that may wait: a point in time after which the wait is over.
//!
//! The capture kernel must reboot whatever a peer does, so no call may block for longer than what is left of its
//! deadline. A step's deadline is cut out of its parent's ([`Deadline::within`]) and can only be earlier, never later.
//! The clock is monotonic: setting the wall clock does not move a deadline.

use std::io;
use std::time::{Duration, Instant};

/// A point in time after which waiting ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    /// The point in time this long from now.
    pub fn after(span: Duration) -> Self {
        // An absurd span (configured as seconds) must not overflow the clock: a year is for ever here.
        Deadline(Instant::now() + span.min(Duration::from_secs(366 * 24 * 3600)))
    }

    /// The earlier of this deadline and `span` from now.
    pub fn within(self, span: Duration) -> Self {
        self.min(Deadline::after(span))
    }

    /// What is left, zero when it has passed.
    pub fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// Whether it has passed.
    pub fn passed(self) -> bool {
        self.left().is_zero()
    }

    /// What is left, for a socket option, where zero would mean to wait for ever.
    ///
    /// # Errors
    /// `TimedOut` once the deadline has passed.
    pub fn timeout(self) -> io::Result<Duration> {
        let left = self.left();
        if left.is_zero() {
            Err(io::Error::from(io::ErrorKind::TimedOut))
        } else {
            // The kernel rounds to its tick; less than a millisecond might become zero, that is, no limit.
            Ok(left.max(Duration::from_millis(1)))
        }
    }

    /// Sleeps for `span`, but not past the deadline.
    pub fn sleep(self, span: Duration) {
        std::thread::sleep(span.min(self.left()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_never_outlives_its_parent() {
        let parent = Deadline::after(Duration::from_millis(50));
        assert_eq!(parent.within(Duration::from_secs(9)), parent);
        assert!(parent.within(Duration::ZERO) < parent);
    }

    #[test]
    fn a_passed_deadline_is_an_error_and_does_not_sleep() {
        let past = Deadline::after(Duration::ZERO);
        assert!(past.passed());
        assert_eq!(past.timeout().unwrap_err().kind(), io::ErrorKind::TimedOut);
        past.sleep(Duration::from_secs(60));
    }

    #[test]
    fn a_span_of_ages_does_not_overflow() {
        assert!(Deadline::after(Duration::MAX).left() > Duration::from_secs(1_000_000));
    }
}
