//! Values in the forms that crash(8) gives them.

use core::fmt;

use super::NS;
use crate::render::date::Date;

/// `Sat Nov 21 19:35:18 UTC 2026`.
pub(super) struct CrashDate(pub(super) u64);

impl fmt::Display for CrashDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let d = Date::from_unix(self.0);
        let (weekday, month) = (d.weekday_name(), d.month_name());
        write!(
            f,
            "{weekday} {month} {:2} {:02}:{:02}:{:02} UTC {}",
            d.day, d.hour, d.minute, d.second, d.year
        )
    }
}

/// `00:15:34`, with `2 days, ` in front.
pub(super) struct Uptime(pub(super) u64);

impl fmt::Display for Uptime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0 / NS;
        let days = seconds / 86_400;
        if days != 0 {
            write!(f, "{days} days, ")?;
        }
        write!(
            f,
            "{:02}:{:02}:{:02}",
            seconds % 86_400 / 3600,
            seconds % 3600 / 60,
            seconds % 60
        )
    }
}

/// A number of hundredths: `0.07`.
pub(super) struct Hundredths(pub(super) u64);

impl fmt::Display for Hundredths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.0 / 100, self.0 % 100)
    }
}

/// Bytes as crash writes them: `319.5 MB`, `2 GB`; an even number has no decimal.
pub(super) struct Bytes(pub(super) u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 3] = [(1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "KB")];
        let unit = UNITS.iter().find(|(size, _)| self.0 >= *size);
        let &(size, name) = unit.unwrap_or(&(1, "bytes"));
        let tenths = self
            .0
            .saturating_mul(10)
            .saturating_add(size / 2)
            .checked_div(size)
            .unwrap_or(0);
        match tenths % 10 {
            0 => write!(f, "{} {name}", tenths / 10),
            tenth => write!(f, "{}.{tenth} {name}", tenths / 10),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn values_have_the_forms_of_crash() {
        assert_eq!(
            CrashDate(1_795_289_718).to_string(),
            "Sat Nov 21 19:35:18 UTC 2026"
        );
        assert_eq!(Uptime(934 * NS).to_string(), "00:15:34");
        assert_eq!(
            Uptime((3 * 86_400 + 61) * NS).to_string(),
            "3 days, 00:01:01"
        );
        assert_eq!(Hundredths(107).to_string(), "1.07");
        assert_eq!(Bytes(335_020_032).to_string(), "319.5 MB");
        assert_eq!(Bytes(2 << 30).to_string(), "2 GB");
    }
}
