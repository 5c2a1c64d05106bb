//! Seconds since 1970 as a date, always UTC: a capture kernel knows no time zone.

/// A point in time, split into what people call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Date {
    /// The year, as 2026.
    pub year: u64,
    /// 1 to 12.
    pub month: u64,
    /// 1 to 31.
    pub day: u64,
    /// 0 to 23.
    pub hour: u64,
    /// 0 to 59.
    pub minute: u64,
    /// 0 to 59.
    pub second: u64,
    /// 0 (Sunday) to 6.
    pub weekday: u64,
}

/// The last second that is told apart, in the year 9999.
const END: u64 = 253_402_300_799;

impl Date {
    /// The date `seconds` after 1970-01-01T00:00:00Z; whatever is later than the year 9999 is its last second.
    pub fn from_unix(seconds: u64) -> Self {
        let seconds = seconds.min(END);
        let days = seconds / 86_400;
        let (mut year, mut rest) = (1970, days);
        while let Some(less) = rest.checked_sub(year_len(year)) {
            rest = less;
            year = year.saturating_add(1);
        }
        let mut month = 1;
        while let Some(less) = rest.checked_sub(month_len(year, month)) {
            rest = less;
            month = month.saturating_add(1);
        }
        Date {
            year,
            month,
            day: rest.saturating_add(1),
            hour: seconds % 86_400 / 3600,
            minute: seconds % 3600 / 60,
            second: seconds % 60,
            // 1970 began on a Thursday.
            weekday: days.saturating_add(4) % 7,
        }
    }

    /// `Sun`, `Mon`, ...
    pub fn weekday_name(&self) -> &'static str {
        name(
            &["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"],
            self.weekday,
        )
    }

    /// `Jan`, `Feb`, ...
    pub fn month_name(&self) -> &'static str {
        const MONTHS: [&str; 12] = [
            "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
        ];
        name(&MONTHS, self.month.saturating_sub(1))
    }
}

fn name(names: &[&'static str], number: u64) -> &'static str {
    names
        .get(crate::bytes::index(number))
        .copied()
        .unwrap_or_default()
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn year_len(year: u64) -> u64 {
    if is_leap(year) { 366 } else { 365 }
}

fn month_len(year: u64, month: u64) -> u64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date(seconds: u64) -> (u64, u64, u64, u64, u64, u64, &'static str) {
        let date = Date::from_unix(seconds);
        (
            date.year,
            date.month,
            date.day,
            date.hour,
            date.minute,
            date.second,
            date.weekday_name(),
        )
    }

    #[test]
    fn known_dates_come_out_right() {
        assert_eq!(date(0), (1970, 1, 1, 0, 0, 0, "Thu"));
        assert_eq!(date(951_826_154), (2000, 2, 29, 12, 9, 14, "Tue"));
        assert_eq!(date(1_795_289_015), (2026, 11, 21, 19, 23, 35, "Sat"));
        assert_eq!(date(4_107_542_399), (2100, 2, 28, 23, 59, 59, "Sun"));
        assert_eq!(date(u64::MAX), (9999, 12, 31, 23, 59, 59, "Fri"));
    }
}
