//! Calendar in UTC: time stamps of the log and the date pieces of `sub -F`.

use std::time::Duration;

const WEEKDAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAY_S: u64 = 86_400;
/// 400 years of the Gregorian calendar.
const ERA_DAYS: u64 = 146_097;
/// Days from 0000-03-01 to 1970-01-01.
const EPOCH_DAYS: u64 = 719_468;

/// A moment in UTC, split up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Utc {
    /// Seconds since 1970.
    pub(super) seconds: u64,
    pub(super) year: u64,
    /// 1 to 12.
    pub(super) month: u64,
    /// 1 to 31.
    pub(super) day: u64,
    /// 1 to 366.
    pub(super) year_day: u64,
    /// 0 = Sunday.
    pub(super) weekday: u64,
    pub(super) hour: u64,
    pub(super) minute: u64,
    pub(super) second: u64,
    pub(super) nanosecond: u32,
}

impl Utc {
    /// Splits a time since 1970 up. Leap seconds do not exist in it.
    ///
    /// Counts years from March, so that the leap day is the last of a year.
    pub(super) fn new(since_epoch: Duration) -> Self {
        let seconds = since_epoch.as_secs();
        let days = seconds / DAY_S + EPOCH_DAYS;
        let era_day = days % ERA_DAYS;
        let era_year = (era_day - era_day / 1460 + era_day / 36_524 - era_day / 146_096) / 365;
        let march_day = era_day - (365 * era_year + era_year / 4 - era_year / 100);
        let march_month = (5 * march_day + 2) / 153;
        let day = march_day - (153 * march_month + 2) / 5 + 1;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        let year = era_year + days / ERA_DAYS * 400 + u64::from(month <= 2);
        let leap = u64::from(
            year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)),
        );
        let year_day = if month > 2 { march_day + 60 + leap } else { march_day - 305 };
        let time = seconds % DAY_S;
        Self {
            seconds,
            year,
            month,
            day,
            year_day,
            weekday: (seconds / DAY_S + 4) % 7,
            hour: time / 3600,
            minute: time / 60 % 60,
            second: time % 60,
            nanosecond: since_epoch.subsec_nanos(),
        }
    }

    /// The piece that `strftime` prints for `%piece` in the C locale; `None` if there is none.
    pub(super) fn piece(&self, piece: char) -> Option<String> {
        let (hour_12, half) =
            (((self.hour + 11) % 12) + 1, if self.hour < 12 { "AM" } else { "PM" });
        let monday = (self.weekday + 6) % 7;
        let year_2 = self.year % 100;
        Some(match piece {
            'a' => short(self.weekday_name()),
            'A' => self.weekday_name().to_owned(),
            'b' | 'h' => short(self.month_name()),
            'B' => self.month_name().to_owned(),
            'c' => self.pieces("a b e T Y", " "),
            'C' => format!("{:02}", self.year / 100),
            'd' => format!("{:02}", self.day),
            'D' | 'x' => format!("{:02}/{:02}/{year_2:02}", self.month, self.day),
            'e' => format!("{:2}", self.day),
            'F' => format!("{}-{:02}-{:02}", self.year, self.month, self.day),
            'H' => format!("{:02}", self.hour),
            'I' => format!("{hour_12:02}"),
            'j' => format!("{:03}", self.year_day),
            'k' => format!("{:2}", self.hour),
            'l' => format!("{hour_12:2}"),
            'm' => format!("{:02}", self.month),
            'M' => format!("{:02}", self.minute),
            'n' => "\n".to_owned(),
            'p' => half.to_owned(),
            'P' => half.to_lowercase(),
            'r' => format!("{hour_12:02}:{:02}:{:02} {half}", self.minute, self.second),
            'R' => format!("{:02}:{:02}", self.hour, self.minute),
            's' => self.seconds.to_string(),
            'S' => format!("{:02}", self.second),
            't' => "\t".to_owned(),
            'T' | 'X' => format!("{:02}:{:02}:{:02}", self.hour, self.minute, self.second),
            'u' => (monday + 1).to_string(),
            'U' => format!("{:02}", (self.year_day + 6 - self.weekday) / 7),
            'w' => self.weekday.to_string(),
            'W' => format!("{:02}", (self.year_day + 6 - monday) / 7),
            'y' => format!("{year_2:02}"),
            'Y' => self.year.to_string(),
            'z' => "+0000".to_owned(),
            'Z' => "UTC".to_owned(),
            _ => return None,
        })
    }

    fn pieces(&self, pieces: &str, separator: &str) -> String {
        let pieces = pieces.split(' ').flat_map(str::chars);
        pieces.filter_map(|piece| self.piece(piece)).collect::<Vec<_>>().join(separator)
    }

    fn weekday_name(&self) -> &'static str {
        pick(&WEEKDAYS, self.weekday)
    }

    fn month_name(&self) -> &'static str {
        pick(&MONTHS, self.month - 1)
    }
}

fn pick(names: &[&'static str], index: u64) -> &'static str {
    usize::try_from(index).ok().and_then(|index| names.get(index)).copied().unwrap_or("")
}

fn short(name: &str) -> String {
    name.chars().take(3).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(seconds: u64, pieces: &str, expected: &str) {
        let utc = Utc::new(Duration::from_secs(seconds));
        assert_eq!(utc.pieces(pieces, "|"), expected, "{seconds}");
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        check(0, "F T a j U W", "1970-01-01|00:00:00|Thu|001|00|00");
        check(951_782_399, "F T A j", "2000-02-28|23:59:59|Monday|059");
        check(951_782_400, "F a j", "2000-02-29|Tue|060");
        check(951_868_800, "F a j", "2000-03-01|Wed|061");
        check(1_795_170_479, "F T a j U W", "2026-11-20|10:27:59|Fri|324|46|46");
        check(4_107_542_400, "F j", "2100-03-01|060");
        check(1_735_603_200, "F j", "2024-12-31|366");
    }

    #[test]
    fn pieces_read_like_strftime() {
        check(1_795_170_479, "Y y C b B d e", "2026|26|20|Nov|November|20|20");
        check(1_795_170_479, "I p r R s u w", "10|AM|10:27:59 AM|10:27|1795170479|5|5");
        check(1_795_170_479, "c x z Z", "Fri Nov 20 10:27:59 2026|11/20/26|+0000|UTC");
        assert_eq!(Utc::new(Duration::ZERO).piece('q'), None);
    }
}
