//! The partition key of a record that comes through a subscription: `{1}` stands for what the first wildcard of its filter
//! matched, `{0}` for the whole topic as MQTT writes it; everything else is itself.

use bytes::Bytes;
use message::{FilterLevel, Levels, Pattern, escape_level};

/// What MQTT cannot show inside a level.
const MQTT: &[u8] = b"/+#";

/// See the module.
#[derive(Clone, Debug)]
pub(crate) enum KeyTemplate {
    /// The message's own.
    Own,
    /// The same for all.
    Fixed(Bytes),
    /// Made of the topic.
    Made(Box<(Pattern, Vec<Part>)>),
}

/// A part of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Text(Bytes),
    /// The whole topic (0), or what that wildcard matched.
    Matched(usize),
}

impl KeyTemplate {
    pub(crate) fn new(text: &Bytes, pattern: &Pattern) -> Self {
        if text.is_empty() {
            return Self::Own;
        }
        let parts = parts(text);
        if let [Part::Text(text)] = &parts[..] {
            return Self::Fixed(text.clone());
        }
        Self::Made(Box::new((pattern.clone(), parts)))
    }

    /// The key for a topic that the filter matches. `None`: the message's own.
    pub(crate) fn key(&self, topic: &Levels) -> Option<Bytes> {
        match self {
            Self::Own => None,
            Self::Fixed(text) => Some(text.clone()),
            Self::Made(made) => {
                let (pattern, parts) = &**made;
                let matched = matched(pattern, topic);
                let mut key = Vec::new();
                for part in parts {
                    match part {
                        Part::Text(text) => key.extend_from_slice(text),
                        Part::Matched(0) => put_levels(topic, 0..topic.len(), &mut key),
                        Part::Matched(number) => {
                            if let Some(range) = matched.get(number - 1) {
                                put_levels(topic, range.clone(), &mut key);
                            }
                        }
                    }
                }
                Some(key.into())
            }
        }
    }
}

/// The parts of a template. Braces without a number between them are text.
fn parts(text: &[u8]) -> Vec<Part> {
    let mut parts = Vec::new();
    let (mut from, mut at) = (0, 0);
    while at < text.len() {
        let number = text[at..].strip_prefix(b"{").and_then(|rest| {
            let end = rest.iter().position(|byte| *byte == b'}')?;
            let digits = std::str::from_utf8(&rest[..end]).ok()?;
            let plain = (1..=3).contains(&end) && digits.bytes().all(|it| it.is_ascii_digit());
            Some((plain.then(|| digits.parse().ok())??, end + 2))
        });
        let Some((number, len)) = number else {
            at += 1;
            continue;
        };
        if from < at {
            parts.push(Part::Text(Bytes::copy_from_slice(&text[from..at])));
        }
        parts.push(Part::Matched(number));
        at += len;
        from = at;
    }
    if from < text.len() {
        parts.push(Part::Text(Bytes::copy_from_slice(&text[from..])));
    }
    parts
}

fn put_levels(topic: &Levels, range: std::ops::Range<usize>, out: &mut Vec<u8>) {
    for at in range.clone() {
        if at > range.start {
            out.push(b'/');
        }
        out.extend_from_slice(&escape_level(topic.level(at).unwrap_or_default(), MQTT));
    }
}

/// What each wildcard of a pattern matched of a topic: `#` as little as it can, from the left.
fn matched(pattern: &Pattern, topic: &Levels) -> Vec<std::ops::Range<usize>> {
    // `fits[p]`: topics from where on the pattern from level `p` on matches. From the end, so that the way forward never errs.
    let (levels, end) = (&pattern.0, topic.len());
    let mut fits = vec![vec![false; end + 1]; levels.len() + 1];
    fits[levels.len()][end] = true;
    for (p, level) in levels.iter().enumerate().rev() {
        for at in (0..=end).rev() {
            fits[p][at] = match level {
                FilterLevel::Many => fits[p + 1][at] || at < end && fits[p][at + 1],
                FilterLevel::One => at < end && fits[p + 1][at + 1],
                FilterLevel::Exact(name) => {
                    topic.level(at) == Some(name) && at < end && fits[p + 1][at + 1]
                }
            };
        }
    }
    let mut found = Vec::new();
    let mut at = 0;
    for (p, level) in levels.iter().enumerate() {
        let from = at;
        match level {
            FilterLevel::Exact(_) => at += 1,
            FilterLevel::One => {
                at += 1;
                found.push(from..at.min(end));
            }
            FilterLevel::Many => {
                while at < end && !fits[p + 1][at] {
                    at += 1;
                }
                found.push(from..at);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels(text: &str) -> Levels {
        Levels::split(text.to_owned().into(), b'/').expect("a topic")
    }

    fn pattern(text: &str) -> Pattern {
        Pattern(
            text.split('/')
                .map(|level| match level {
                    "+" => FilterLevel::One,
                    "#" => FilterLevel::Many,
                    level => FilterLevel::Exact(Bytes::copy_from_slice(level.as_bytes())),
                })
                .collect(),
        )
    }

    #[test]
    fn templates_name_the_topic_and_what_wildcards_matched() {
        for (template, filter, topic, key) in [
            ("", "a/+", "a/b", None),
            ("k", "a/+", "a/b", Some("k")),
            ("{0}", "a/+", "a/b", Some("a/b")),
            ("{1}", "sensors/+/temp", "sensors/7/temp", Some("7")),
            ("{2}-{1}", "+/x/+", "a/x/b", Some("b-a")),
            ("{1}", "a/#", "a/b/c", Some("b/c")),
            ("{1}", "a/#", "a", Some("")),
            ("{1}|{2}", "#/m/#", "a/m/m/z", Some("a|m/z")),
            ("{9}", "a/+", "a/b", Some("")),
            ("{x}{}{", "a/+", "a/b", Some("{x}{}{")),
            ("{{1}}", "a/+", "a/b", Some("{b}")),
            ("{0001}", "a/+", "a/b", Some("{0001}")),
        ] {
            let template = KeyTemplate::new(&template.to_owned().into(), &pattern(filter));
            let made = template.key(&levels(topic));
            assert_eq!(made, key.map(Bytes::from), "{filter} of {topic}");
        }
    }

    #[test]
    fn levels_are_written_as_mqtt_writes_them() {
        let topic = Levels::collect(["a", "b/c"]).expect("a topic");
        let template = KeyTemplate::new(&"{0} {1}".to_owned().into(), &pattern("a/+"));
        assert_eq!(template.key(&topic), Some(Bytes::from("a/b%2Fc b%2Fc")));
    }
}
