//! ARNs, names of topics, ids of subscriptions, tokens: texts that stand for things, and back.
//!
//! Topic objects whose name begins with `$` are ours: an ARN cannot name them, and lists leave them out.
//!
//! | object | what |
//! |---|---|
//! | `$sns` | takes what is to be sent without a topic: confirmations, text messages, direct pushes |
//! | `$sns/sms` | SMS attributes in its notes; what is known of phone numbers in its subscriptions |
//! | `$sns/app/PLATFORM/NAME` | a platform application; its endpoints are its subscriptions |

use aws::{ApiError, Call, digest, seal};
use bytes::Bytes;
use message::{Filter, FilterLevel, Levels, Name, Pattern, Timestamp, base64, unescape_level};
use session::{Secret, SubscriptionId};

use crate::faults::invalid;

/// The virtual host and the queue of what is to be delivered to endpoints.
pub const DELIVERY_VHOST: &str = "/";
/// See [`DELIVERY_VHOST`].
pub const DELIVERY_QUEUE: &str = "$sns";
/// What no name of ours is behind.
pub(crate) const BEHIND_OURS: &[u8] = b"$\xff";
/// How the names of platform applications begin.
pub(crate) const APPLICATION: &str = "$sns/app/";
/// The object of what is known of phone numbers.
pub(crate) const SMS: &str = "$sns/sms";
/// The longest topic name, in characters, `.fifo` included.
const TOPIC_NAME_LEN_MAX: usize = 256;
/// How long a confirmation token is good, and a subscription waits for its confirmation, as with AWS: two days.
pub(crate) const TOKEN_MS: u64 = 2 * 24 * 3600 * 1000;

/// A part of an ARN of SNS: `arn:aws:sns:REGION:ACCOUNT:RESOURCE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arn<'a> {
    pub(crate) service: &'a str,
    pub(crate) region: &'a str,
    pub(crate) account: &'a str,
    pub(crate) resource: &'a str,
}

impl<'a> Arn<'a> {
    /// Reads one. `what` names the parameter in the error.
    pub(crate) fn read(text: &'a str, what: &str) -> Result<Self, ApiError> {
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        let [arn, partition, service, region, account, resource] = parts[..] else {
            return Err(invalid(format!(
                "{what} Reason: An ARN must have at least 6 elements, not {}",
                parts.len()
            )));
        };
        if arn != "arn" || !partition.starts_with("aws") || resource.is_empty() {
            return Err(invalid(what));
        }
        Ok(Self {
            service,
            region,
            account,
            resource,
        })
    }

    /// Whether it names something in the virtual host of the caller.
    pub(crate) fn is_here(&self, call: &Call) -> bool {
        self.service == "sns"
            && (call.vhost_of)(call, self.account, self.region)
                .is_some_and(|vhost| vhost == call.vhost_name)
    }
}

/// Whether a topic may have that name. Objects of ours have others, so that no ARN of a topic or of its subscriptions reaches them.
fn is_nameable(topic: &str) -> bool {
    !topic.contains([':', '/', '$'])
}

/// The name of the topic that an ARN names. `Ok(None)`: it is not here, so there is none.
pub(crate) fn topic_name(call: &Call, arn: &str, what: &str) -> Result<Option<Name>, ApiError> {
    let arn = Arn::read(arn, what)?;
    let here = arn.is_here(call) && is_nameable(arn.resource);
    Ok(here.then(|| Bytes::copy_from_slice(arn.resource.as_bytes())))
}

/// The topic and the number of a subscription. `Ok(None)`: it is not here.
pub(crate) fn subscription_id(
    call: &Call,
    arn: &str,
) -> Result<Option<(Name, SubscriptionId)>, ApiError> {
    let what = "SubscriptionArn";
    let read = Arn::read(arn, what)?;
    let Some((topic, id)) = read.resource.split_once(':') else {
        return Err(invalid(format!(
            "{what} Reason: An ARN must have at least 7 elements, not 6"
        )));
    };
    let here = read.is_here(call) && is_nameable(topic);
    let id = digest::read_uuid(id).filter(|_| here);
    Ok(id.map(|id| {
        let topic = Bytes::copy_from_slice(topic.as_bytes());
        (topic, SubscriptionId(id))
    }))
}

/// The ARN of a subscription.
pub(crate) fn subscription_arn(topic_arn: &str, id: SubscriptionId) -> String {
    format!("{topic_arn}:{}", digest::uuid_text(&id.0))
}

/// Checks the name of a new topic.
pub(crate) fn check_topic_name(name: &str, fifo: bool) -> Result<(), ApiError> {
    let rule = "must be made up of only uppercase and lowercase ASCII letters, numbers, underscores, and hyphens, and must be \
                between 1 and 256 characters long.";
    let legal = |stem: &str| {
        let byte = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        !stem.is_empty() && stem.bytes().all(byte)
    };
    let stem = if fifo {
        name.strip_suffix(".fifo")
    } else {
        Some(name)
    };
    if name.len() <= TOPIC_NAME_LEN_MAX && stem.is_some_and(legal) {
        return Ok(());
    }
    Err(crate::faults::plain(if fifo {
        format!("Fifo Topic names must end with .fifo and {rule}")
    } else {
        format!("Topic names {rule}")
    }))
}

/// The address of attribute `bascule.address`, as MQTT writes topics.
pub(crate) fn address(text: &str) -> Option<Levels> {
    if text.is_empty() || text.starts_with('$') || text.contains(['+', '#', '\0']) {
        return None;
    }
    let levels = text
        .as_bytes()
        .split(|byte| *byte == b'/')
        .map(|level| unescape_level(level, b"/+#"));
    Levels::collect(levels)
}

/// The pattern of attribute `bascule.pattern`, as MQTT writes topic filters.
pub(crate) fn pattern(text: &str) -> Option<Filter> {
    if text.is_empty() || text.contains('\0') {
        return None;
    }
    let count = text.split('/').count();
    let mut levels = Vec::with_capacity(count);
    for (at, level) in text.split('/').enumerate() {
        levels.push(match level {
            "+" => FilterLevel::One,
            "#" if at + 1 == count => FilterLevel::Many,
            _ if level.contains(['+', '#']) => return None,
            _ => FilterLevel::Exact(unescape_level(level.as_bytes(), b"/+#").into_owned().into()),
        });
    }
    let pattern = Pattern(levels);
    // Long ones and those of many levels have no equal among topics.
    let longest = Levels::collect(text.split('/'));
    longest.map(|_| match pattern.exact() {
        Some(exact) => Filter::Exact(exact),
        None => Filter::Pattern(pattern),
    })
}

const PURPOSE: &[u8] = b"sns subscription";

/// A token by which an endpoint confirms a subscription: hexadecimal, as AWS's are, so that it needs no escape in a URL.
pub(crate) fn confirmation_token(secret: &Secret, id: SubscriptionId, now: Timestamp) -> String {
    let mut content = id.0.to_vec();
    content.extend_from_slice(&now.0.to_be_bytes());
    let sealed = seal::seal(secret, &[PURPOSE], &content);
    digest::hex(&base64::decode(sealed.as_bytes()).expect("what was sealed is base64"))
}

/// The bytes of hexadecimal digits.
pub(crate) fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let pairs = text.as_bytes().chunks(2).map(|pair| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    });
    pairs.collect()
}

/// The subscription that a token confirms.
pub(crate) fn confirmed_by(secret: &Secret, token: &str, now: Timestamp) -> Option<SubscriptionId> {
    let content = seal::open(secret, &[PURPOSE], &base64::encode(&from_hex(token)?))?;
    let (id, made) = content.split_at_checked(16)?;
    let made = Timestamp(u64::from_be_bytes(made.try_into().ok()?));
    (now.since(made) <= TOKEN_MS).then_some(SubscriptionId(id.try_into().ok()?))
}

/// A URL that calls an operation: `BASE/?Action=NAME&MEMBER=VALUE…`.
pub(crate) fn action_url(base: &str, action: &str, members: &[(&str, &str)]) -> String {
    let mut url = format!("{base}/?Action={action}&Version=2010-03-31");
    for (name, value) in members {
        url.push('&');
        url.push_str(name);
        url.push('=');
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~' | b':') {
                url.push(char::from(byte));
            } else {
                url.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    url
}

/// The URL that ends a subscription.
#[must_use]
pub fn unsubscribe_url(base: &str, subscription_arn: &str) -> String {
    action_url(
        base,
        "Unsubscribe",
        &[("SubscriptionArn", subscription_arn)],
    )
}

/// The URL that confirms a subscription.
pub(crate) fn subscribe_url(base: &str, topic_arn: &str, token: &str) -> String {
    action_url(
        base,
        "ConfirmSubscription",
        &[("TopicArn", topic_arn), ("Token", token)],
    )
}

/// Whether a text is a phone number in the form of E.164.
pub(crate) fn is_phone_number(text: &str) -> bool {
    let digits = text.strip_prefix('+').unwrap_or(text);
    (2..=15).contains(&digits.len())
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && !digits.starts_with('0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_topics_have_the_alphabet_of_sns() {
        assert!(check_topic_name("-some_topic-9", false).is_ok());
        assert!(check_topic_name(&"a".repeat(256), false).is_ok());
        for bad in ["", "a b", "a.fifo", "a:b", "ü", &"a".repeat(257)] {
            assert!(check_topic_name(bad, false).is_err(), "{bad}");
        }
        assert!(check_topic_name("a.fifo", true).is_ok());
        for bad in ["a", "a.b.fifo", ".fifo"] {
            assert!(check_topic_name(bad, true).is_err(), "{bad}");
        }
    }

    #[test]
    fn tokens_confirm_their_subscription_for_two_days() {
        let (secret, id) = (Secret([3; 32]), SubscriptionId([9; 16]));
        let token = confirmation_token(&secret, id, Timestamp(1000));
        assert!(token.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let by = |token: &str, now| confirmed_by(&secret, token, Timestamp(now));
        assert_eq!(by(&token, 1000 + TOKEN_MS), Some(id));
        assert_eq!(by(&token, 1001 + TOKEN_MS), None);
        assert_eq!(
            confirmed_by(&Secret([4; 32]), &token, Timestamp(1000)),
            None
        );
        for other in ["", "2336", "x", &token[1..], &"ab".repeat(40)] {
            assert_eq!(by(other, 1000), None, "{other}");
        }
    }

    #[test]
    fn patterns_are_those_of_mqtt() {
        assert!(matches!(pattern("a/+/b/#"), Some(Filter::Pattern(_))));
        assert!(matches!(pattern("a/b"), Some(Filter::Exact(_))));
        for bad in ["", "a/#/b", "a+/b", "a#"] {
            assert_eq!(pattern(bad), None, "{bad}");
        }
        assert_eq!(address("$SYS/x"), None);
        assert_eq!(address("a/b%2Fc").map(|levels| levels.len()), Some(2));
    }

    #[test]
    fn urls_escape_what_they_must() {
        assert_eq!(
            unsubscribe_url("http://h:1", "arn:aws:sns:r:1:t:u v&"),
            "http://h:1/?Action=Unsubscribe&Version=2010-03-31&SubscriptionArn=arn:aws:sns:r:1:t:u%20v%26"
        );
    }
}
