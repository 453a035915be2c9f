//! Times as texts: ISO 8601, and the basic form of it that signatures have.

use message::Timestamp;

const DAY_MS: u64 = 86_400_000;

/// The day since 1970-01-01. `None`: there is no such date, or it is before.
fn day(year: u64, month: u64, day_of_month: u64) -> Option<u64> {
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) {
        return None;
    }
    let from_march = (month + 9) % 12;
    let in_years = year - u64::from(month < 3);
    let day = 365 * in_years + in_years / 4 - in_years / 100
        + in_years / 400
        + (153 * from_march + 2) / 5
        + day_of_month.checked_sub(1)?;
    let day = day.checked_sub(719_468)?;
    (Timestamp(day * DAY_MS).date() == (year, month, day_of_month)).then_some(day)
}

/// `20200102T030405Z`.
pub(crate) fn basic(at: Timestamp) -> String {
    let (year, month, day) = at.date();
    let ms = at.0 % DAY_MS;
    format!(
        "{year:04}{month:02}{day:02}T{:02}{:02}{:02}Z",
        ms / 3_600_000,
        ms / 60_000 % 60,
        ms / 1000 % 60
    )
}

fn number(text: &[u8]) -> Option<u64> {
    text.iter().try_fold(0, |number, byte| {
        byte.is_ascii_digit()
            .then(|| number * 10 + u64::from(byte - b'0'))
    })
}

fn clock(hour: u64, minute: u64, second: u64) -> Option<u64> {
    (hour < 24 && minute < 60 && second < 60)
        .then_some(hour * 3_600_000 + minute * 60_000 + second * 1000)
}

/// Reads [`basic`].
pub(crate) fn read_basic(text: &str) -> Option<Timestamp> {
    let text = text.as_bytes();
    if text.len() != 16 || text[8] != b'T' || text[15] != b'Z' {
        return None;
    }
    let part = |from: usize, to: usize| number(&text[from..to]);
    let day = day(part(0, 4)?, part(4, 6)?, part(6, 8)?)?;
    let ms = clock(part(9, 11)?, part(11, 13)?, part(13, 15)?)?;
    Some(Timestamp(day * DAY_MS + ms))
}

/// Reads the date of an HTTP header (RFC 9110, 5.6.7, the form that is not obsolete): `Thu, 02 Jan 2020 03:04:05 GMT`.
pub(crate) fn read_http(text: &str) -> Option<Timestamp> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let (_, rest) = text.split_once(", ")?;
    let mut parts = rest.strip_suffix(" GMT")?.split(' ');
    let mut next = || parts.next();
    let (day_of_month, month, year, time) = (next()?, next()?, next()?, next()?);
    if next().is_some() || (day_of_month.len(), year.len(), time.len()) != (2, 4, 8) {
        return None;
    }
    let month = MONTHS.iter().position(|known| *known == month)? as u64 + 1;
    let day = day(
        number(year.as_bytes())?,
        month,
        number(day_of_month.as_bytes())?,
    )?;
    let time = time.as_bytes();
    if (time[2], time[5]) != (b':', b':') {
        return None;
    }
    let part = |from: usize| number(&time[from..from + 2]);
    Some(Timestamp(
        day * DAY_MS + clock(part(0)?, part(3)?, part(6)?)?,
    ))
}

/// Reads [`Timestamp::date_time`], with or without a fraction, in UTC.
pub(crate) fn read_iso(text: &str) -> Option<Timestamp> {
    let text = text
        .strip_suffix('Z')
        .or_else(|| text.strip_suffix("+00:00"));
    let text = text?.as_bytes();
    let punctuated =
        text.len() >= 19 && [text[4], text[7], text[10], text[13], text[16]] == *b"--T::";
    if !punctuated {
        return None;
    }
    let part = |from: usize, to: usize| number(&text[from..to]);
    let day = day(part(0, 4)?, part(5, 7)?, part(8, 10)?)?;
    let ms = clock(part(11, 13)?, part(14, 16)?, part(17, 19)?)?;
    let fraction = match text.get(19) {
        None => 0,
        Some(b'.') => {
            let digits = text.get(20..)?;
            number(digits).filter(|_| (1..=9).contains(&digits.len()))?;
            (0..3).fold(0, |ms, at| {
                ms * 10 + digits.get(at).map_or(0, |digit| u64::from(digit - b'0'))
            })
        }
        Some(_) => return None,
    };
    Some(Timestamp(day * DAY_MS + ms + fraction))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_come_back() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_440_938_160_000, "2015-08-30T12:36:00.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(Timestamp(ms).date_time(), text);
            assert_eq!(read_iso(text), Some(Timestamp(ms)), "{text}");
        }
        assert_eq!(basic(Timestamp(1_440_938_160_000)), "20150830T123600Z");
        for day in 0..60_000 {
            let text = basic(Timestamp(day * DAY_MS));
            assert_eq!(read_basic(&text), Some(Timestamp(day * DAY_MS)), "{text}");
        }
        assert_eq!(
            read_iso("2020-01-02T03:04:05Z"),
            Some(Timestamp(1_577_934_245_000))
        );
        assert_eq!(
            read_iso("2020-01-02T03:04:05.25Z"),
            Some(Timestamp(1_577_934_245_250))
        );
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in [
            "",
            "20150830T123600",
            "20150230T123600Z",
            "20151330T123600Z",
            "20150830T243600Z",
            "20150830X123600Z",
            "2015083aT123600Z",
            "19691231T235959Z",
        ] {
            assert_eq!(read_basic(text), None, "{text}");
        }
        for text in [
            "2020-01-02",
            "2020-01-02T03:04:05",
            "2020-01-02T03:04:05.Z",
            "2020-01-02T03:04:05xZ",
        ] {
            assert_eq!(read_iso(text), None, "{text}");
        }
        assert_eq!(
            read_http("Sun, 30 Aug 2015 12:36:00 GMT"),
            Some(Timestamp(1_440_938_160_000))
        );
        for text in [
            "30 Aug 2015 12:36:00 GMT",
            "Sun, 30 Aug 2015 12:36:00 CET",
            "Sun, 31 Feb 2015 12:36:00 GMT",
            "Sun, 30 Xyz 2015 12:36:00 GMT",
            "Sun, 30 Aug 2015 12-36-00 GMT",
            "Sun, 30 Aug 2015 12:36:00 x GMT",
            "Sunday, 30-Aug-15 12:36:00 GMT",
        ] {
            assert_eq!(read_http(text), None, "{text}");
        }
    }
}
