//! What the headers of a SUBSCRIBE ask for beyond the specification, in RabbitMQ's and ActiveMQ's words.

use bytes::Bytes;
use message::{Name, Selector};
use session::{DeadLetter, Overflow, QueueAttributes, QueueOptions};

use crate::{Dialect, codec::Headers, destination, error::Fault};

use super::conversation::of_destination;

/// What is understood and not built is refused, never left out in silence.
pub(super) fn refuse_unbuilt(headers: &Headers) -> Result<(), Fault> {
    if headers.first("x-stream-filter").is_some() {
        return Err(Fault::not_built("'x-stream-filter' is not implemented"));
    }
    let is_ours = |name: &[u8]| name.starts_with(b"x-bascule") || name.starts_with(b"bascule.");
    if let Some((name, value)) = headers.0.iter().find(|(name, _)| is_ours(name)) {
        let name = String::from_utf8_lossy(name);
        return Err(Fault::invalid(
            &name,
            value,
            "absent: there is no such header",
        ));
    }
    for name in [
        "activemq.retroactive",
        "activemq.noLocal",
        "no-local",
        "activemq.exclusive",
        "browser",
    ] {
        if headers.is_true(name) {
            return Err(Fault::not_built(format!("'{name}' is not implemented")));
        }
    }
    Ok(())
}

/// The condition that a `selector` header sets; an empty one sets none, as in Jakarta Messaging.
pub(super) fn selector(headers: &Headers) -> Result<Option<Selector>, Fault> {
    let Some(text) = headers
        .text("selector")
        .filter(|text| !text.trim().is_empty())
    else {
        return Ok(None);
    };
    Selector::parse(text)
        .map(Some)
        .map_err(|error| Fault::peer("invalid selector", error.to_string()))
}

/// The number in the first of these headers that is there.
pub(super) fn first_number<T: std::str::FromStr>(
    headers: &Headers,
    names: &[&str],
) -> Result<Option<T>, Fault> {
    let Some((name, value)) = names
        .iter()
        .find_map(|name| Some((name, headers.first(name)?)))
    else {
        return Ok(None);
    };
    let number = std::str::from_utf8(value)
        .ok()
        .and_then(|text| text.trim().parse().ok());
    number
        .map(Some)
        .ok_or_else(|| Fault::invalid(name, value, "a number"))
}

/// ActiveMQ's virtual topics: queue `Consumer.N.VirtualTopic.T` reads topic `VirtualTopic.T`.
pub(super) fn virtual_topic(queue: &Name) -> Option<Bytes> {
    let rest = queue.strip_prefix(b"Consumer.")?;
    let marker = b".VirtualTopic.";
    let at = rest.windows(marker.len()).position(|part| part == marker)?;
    let topic = &rest[at + 1..];
    (at > 0 && topic.len() > marker.len() - 1).then(|| queue.slice_ref(topic))
}

fn is_option(name: &[u8]) -> bool {
    matches!(
        name,
        b"durable"
            | b"auto-delete"
            | b"exclusive"
            | b"x-queue-type"
            | b"x-message-ttl"
            | b"x-expires"
            | b"x-max-length"
            | b"x-max-length-bytes"
            | b"x-overflow"
            | b"x-dead-letter-exchange"
            | b"x-dead-letter-routing-key"
            | b"x-max-priority"
            | b"x-single-active-consumer"
            | b"x-delivery-limit"
    )
}

/// The options of a queue that a SUBSCRIBE or a SEND names, RabbitMQ's way. `None`: it names none.
pub(super) fn queue_options(
    headers: &Headers,
    dialect: Dialect,
) -> Result<Option<QueueOptions>, Fault> {
    if !headers.0.iter().any(|(name, _)| is_option(name)) {
        return Ok(None);
    }
    match headers.text("x-queue-type") {
        None | Some("classic" | "quorum") => {}
        Some(other) => {
            return Err(Fault::invalid(
                "x-queue-type",
                other.as_bytes(),
                "classic, quorum or, of a queue, stream",
            ));
        }
    }
    let number = |name| first_number::<u64>(headers, &[name]);
    let dead_letter = match headers.first("x-dead-letter-exchange") {
        Some(exchange) => Some(DeadLetter {
            exchange: exchange.clone(),
            key: match headers.first("x-dead-letter-routing-key") {
                Some(key) => Some(destination::levels(key, dialect).map_err(of_destination)?),
                None => None,
            },
        }),
        None => None,
    };
    let overflow = match headers.text("x-overflow") {
        None | Some("drop-head") => Overflow::DropHead,
        Some("reject-publish") => Overflow::RejectPublish,
        Some("reject-publish-dlx") => Overflow::RejectPublishDeadLetter,
        Some(other) => {
            let wanted = "drop-head, reject-publish or reject-publish-dlx";
            return Err(Fault::invalid("x-overflow", other.as_bytes(), wanted));
        }
    };
    // RabbitMQ's limit counts deliveries that failed, ours all of them.
    let deliveries_max =
        first_number::<u32>(headers, &["x-delivery-limit"])?.map(|limit| limit.saturating_add(1));
    Ok(Some(QueueOptions {
        durable: headers.text("durable") != Some("false"),
        exclusive: headers.is_true("exclusive"),
        auto_delete: headers.is_true("auto-delete"),
        attributes: QueueAttributes {
            ttl_ms: number("x-message-ttl")?,
            expires_ms: number("x-expires")?,
            length_max: number("x-max-length")?,
            bytes_max: number("x-max-length-bytes")?,
            overflow,
            dead_letter,
            deliveries_max,
            priority_max: first_number(headers, &["x-max-priority"])?,
            single_active_consumer: headers.is_true("x-single-active-consumer"),
            ..QueueAttributes::default()
        },
        declaration: None,
    }))
}
