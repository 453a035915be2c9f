//! The patterns of the API reference.

use aws::Checked;

/// Names of streams, consumers and shards.
pub(super) const WORD: Checked = Checked {
    pattern: "[a-zA-Z0-9_.-]+",
    holds: is_word,
};
/// A place in the hash space.
pub(super) const HASH: Checked = Checked {
    pattern: r"0|([1-9]\d{0,38})",
    holds: |text| is_number(text, 39),
};
/// A sequence number.
pub(super) const SEQUENCE: Checked = Checked {
    pattern: r"0|([1-9]\d{0,128})",
    holds: |text| is_number(text, 129),
};
/// The ARN of a stream.
pub(super) const STREAM: Checked = Checked {
    pattern: r"arn:aws.*:kinesis:.*:\d{12}:stream/\S+",
    holds: |text| is_arn(text, |resource| resource.strip_prefix("stream/")),
};
/// The ARN of a stream or of a consumer.
pub(super) const RESOURCE: Checked = Checked {
    pattern: r"arn:aws.*:kinesis:.*:\d{12}:.*stream/\S+",
    holds: |text| is_arn(text, |resource| Some(resource.split_once("stream/")?.1)),
};
/// The id of a stream.
pub(super) const STREAM_ID: Checked = Checked {
    pattern: "[a-z0-9]{20}-[a-z0-9]{3}",
    holds: |text| {
        text.len() == 24
            && text.bytes().enumerate().all(|(at, byte)| match at {
                20 => byte == b'-',
                _ => byte.is_ascii_lowercase() || byte.is_ascii_digit(),
            })
    },
};

fn is_word(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

fn is_number(text: &str, digits_max: usize) -> bool {
    text.len() <= digits_max
        && text.bytes().all(|byte| byte.is_ascii_digit())
        && (text == "0" || text.starts_with(|first| first != '0'))
        && !text.is_empty()
}

fn is_arn(text: &str, name: fn(&str) -> Option<&str>) -> bool {
    let mut parts = text.splitn(6, ':');
    let (Some("arn"), Some(partition), Some("kinesis"), Some(_), Some(account), Some(resource)) = (
        parts.next(),
        parts.next(),
        parts.next(),
        parts.next(),
        parts.next(),
        parts.next(),
    ) else {
        return false;
    };
    partition.starts_with("aws")
        && account.len() == 12
        && account.bytes().all(|byte| byte.is_ascii_digit())
        && name(resource).is_some_and(|name| {
            !name.is_empty() && !name.contains(|character: char| character.is_whitespace())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(what: Checked, good: &[&str], bad: &[&str]) {
        for text in good {
            assert!((what.holds)(text), "{} {text}", what.pattern);
        }
        for text in bad {
            assert!(!(what.holds)(text), "{} {text}", what.pattern);
        }
    }

    #[test]
    fn patterns_hold_for_what_they_say() {
        check(WORD, &["a", "a.b-c_9"], &["", "?", "a b", "ä", "a/b"]);
        check(
            HASH,
            &["0", "1", "340282366920938463463374607431768211455"],
            &["", "01", "-1", "sth", "1e5", &"1".repeat(40)],
        );
        check(
            SEQUENCE,
            &["0", "10", &"9".repeat(129)],
            &["", "00", &"9".repeat(130)],
        );
        check(
            STREAM,
            &["arn:aws:kinesis:us-east-1:123456789012:stream/x"],
            &[
                "x",
                "arn:aws:kinesis:us-east-1:123456789012:stream/",
                "arn:aws:kinesis:us-east-1:12345678901:stream/x",
                "arn:aws:sqs:us-east-1:123456789012:stream/x",
                "arn:aws:kinesis:us-east-1:123456789012:stream/x y",
            ],
        );
        check(
            RESOURCE,
            &["arn:aws:kinesis:us-east-1:123456789012:stream/x/consumer/y:1"],
            &["arn:aws:kinesis:us-east-1:123456789012:x"],
        );
        check(
            STREAM_ID,
            &["abcdefghij0123456789-abc"],
            &[
                "abcdefghij0123456789aabc",
                "ABCDEFGHIJ0123456789-abc",
                "a-b",
            ],
        );
    }
}
