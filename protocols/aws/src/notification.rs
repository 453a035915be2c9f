//! The JSON that SNS wraps a message in, for receivers that did not ask for it raw: what SQS shows as the body, and what
//! goes to HTTP endpoints. Building only; signing is a function in the settings ([`Signer`]), which the composition fills.
//!
//! The members, their order and their spacing are those of SNS, as people compare them by eye and some by text.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use message::{Timestamp, Value, base64};
use session::{Delivery, First, QueueId, Secret};

use crate::{Attributes, Content, Shown, digest};

/// What kind of envelope it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Envelope<'a> {
    /// A message.
    Notification {
        /// Where a `GET` ends the subscription.
        unsubscribe_url: &'a str,
    },
    /// The first thing that an endpoint gets: it visits the URL, or calls ConfirmSubscription with the token.
    SubscriptionConfirmation {
        /// The token.
        token: &'a str,
        /// Where a `GET` confirms.
        subscribe_url: &'a str,
    },
    /// The last thing that an endpoint gets: a `GET` of the URL takes the end back.
    UnsubscribeConfirmation {
        /// The token.
        token: &'a str,
        /// Where a `GET` confirms the subscription again.
        subscribe_url: &'a str,
    },
}

/// A message in its envelope.
#[derive(Clone, Copy, Debug)]
pub struct Notification<'a> {
    /// Which kind.
    pub envelope: Envelope<'a>,
    /// The id of the publish.
    pub message_id: &'a str,
    /// The topic.
    pub topic_arn: &'a str,
    /// The subject.
    pub subject: Option<&'a str>,
    /// The body.
    pub message: &'a str,
    /// When it was published.
    pub timestamp: Timestamp,
    /// Its number, in FIFO topics.
    pub sequence: Option<u64>,
    /// The message attributes.
    pub attributes: &'a Attributes,
}

impl Shown {
    /// Its id: its own, else one that is the same in every queue that subscriptions brought it to, and at each attempt. The
    /// store's secret tells those of one broker from those of another.
    #[must_use]
    pub fn id_in_envelope(&self, delivery: &Delivery, secret: &Secret) -> [u8; 16] {
        self.message_id.unwrap_or_else(|| {
            let kept_before = || First {
                queue: delivery.id.map_or(QueueId(0), |id| id.queue),
                qseq: delivery.id.map_or(0, |id| id.qseq),
                time: delivery.enqueued,
            };
            let first = delivery
                .first
                .as_deref()
                .copied()
                .unwrap_or_else(kept_before);
            let parts = [first.queue.0, first.qseq, first.time.0].map(u64::to_be_bytes);
            let made = digest::hmac_sha256(&secret.0, &[b"sns id", &parts.concat()]);
            let mut id = [0; 16];
            id.copy_from_slice(&made[..16]);
            digest::random_uuid(id)
        })
    }
}

/// When a message was published, for its envelopes.
#[must_use]
pub fn published(delivery: &Delivery) -> Timestamp {
    let came = delivery
        .first
        .as_ref()
        .map_or(delivery.enqueued, |first| first.time);
    delivery.message.created.unwrap_or(came)
}

/// The signature of an envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// `1`: with SHA-1; `2`: with SHA-256.
    pub version: &'static str,
    /// The signature.
    pub bytes: Vec<u8>,
    /// Where the certificate is.
    pub certificate_url: String,
}

/// How a topic's envelopes are signed (attribute `SignatureVersion`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SignatureVersion {
    /// `1`: RSA with SHA-1.
    #[default]
    Sha1,
    /// `2`: RSA with SHA-256.
    Sha256,
}

/// Signs notifications; `None` when there is no key.
#[derive(Clone)]
pub struct Signer {
    /// Gets the version, the text and where clients reached us (`http://127.0.0.1:4566`).
    pub sign: Arc<SignFn>,
    /// The certificate, as PEM.
    pub certificate: Arc<CertificateFn>,
}

/// See [`Signer::sign`].
pub type SignFn = dyn Fn(SignatureVersion, &str, &str) -> Option<Signature> + Send + Sync;
/// See [`Signer::certificate`].
pub type CertificateFn = dyn Fn() -> Option<Bytes> + Send + Sync;

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer")
    }
}
impl PartialEq for Signer {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.sign, &other.sign)
    }
}

impl Notification<'_> {
    const fn kind(&self) -> &'static str {
        match self.envelope {
            Envelope::Notification { .. } => "Notification",
            Envelope::SubscriptionConfirmation { .. } => "SubscriptionConfirmation",
            Envelope::UnsubscribeConfirmation { .. } => "UnsubscribeConfirmation",
        }
    }

    /// What a signature is over: names and values, a line each, in the order of the names.
    #[must_use]
    pub fn text_to_sign(&self) -> String {
        let time = self.timestamp.date_time();
        let mut lines = vec![("Message", self.message), ("MessageId", self.message_id)];
        match self.envelope {
            Envelope::Notification { .. } => {
                lines.extend(self.subject.map(|subject| ("Subject", subject)));
                lines.push(("Timestamp", &time));
            }
            Envelope::SubscriptionConfirmation {
                token,
                subscribe_url,
            }
            | Envelope::UnsubscribeConfirmation {
                token,
                subscribe_url,
            } => lines.extend([
                ("SubscribeURL", subscribe_url),
                ("Timestamp", &time),
                ("Token", token),
            ]),
        }
        lines.extend([("TopicArn", self.topic_arn), ("Type", self.kind())]);
        let lines = lines
            .iter()
            .map(|(name, value)| format!("{name}\n{value}\n"));
        lines.collect()
    }

    /// The JSON.
    #[must_use]
    pub fn to_json(&self, signature: Option<&Signature>) -> String {
        let mut members: Vec<(&str, String)> = vec![
            ("Type", quoted(self.kind())),
            ("MessageId", quoted(self.message_id)),
        ];
        if let Some(sequence) = self.sequence {
            members.push(("SequenceNumber", quoted(&format!("{sequence:020}"))));
        }
        if let Envelope::SubscriptionConfirmation { token, .. }
        | Envelope::UnsubscribeConfirmation { token, .. } = self.envelope
        {
            members.push(("Token", quoted(token)));
        }
        members.push(("TopicArn", quoted(self.topic_arn)));
        if let Some(subject) = self.subject {
            members.push(("Subject", quoted(subject)));
        }
        members.push(("Message", quoted(self.message)));
        if let Envelope::SubscriptionConfirmation { subscribe_url, .. }
        | Envelope::UnsubscribeConfirmation { subscribe_url, .. } = self.envelope
        {
            members.push(("SubscribeURL", quoted(subscribe_url)));
        }
        members.push(("Timestamp", quoted(&self.timestamp.date_time())));
        if let Some(signature) = signature {
            members.extend([
                ("SignatureVersion", quoted(signature.version)),
                ("Signature", quoted(&base64::encode(&signature.bytes))),
                ("SigningCertURL", quoted(&signature.certificate_url)),
            ]);
        }
        if let Envelope::Notification { unsubscribe_url } = self.envelope {
            members.push(("UnsubscribeURL", quoted(unsubscribe_url)));
        }
        if !self.attributes.0.is_empty() {
            members.push(("MessageAttributes", self.attributes_json()));
        }
        let lines: Vec<String> = members
            .iter()
            .map(|(name, value)| format!("  \"{name}\" : {value}"))
            .collect();
        format!("{{\n{}\n}}", lines.join(",\n"))
    }

    fn attributes_json(&self) -> String {
        let entries: Vec<String> = self
            .attributes
            .0
            .iter()
            .map(|attribute| {
                let value = match &attribute.content {
                    Content::Text(text) => quoted(text),
                    Content::Binary(bytes) => quoted(&base64::encode(bytes)),
                };
                let name = quoted(&attribute.name);
                let kind = quoted(&attribute.data_type);
                format!("    {name} : {{\"Type\":{kind},\"Value\":{value}}}")
            })
            .collect();
        format!("{{\n{}\n  }}", entries.join(",\n"))
    }
}

fn quoted(text: &str) -> String {
    Value::text(text).to_json()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::Attribute;

    #[test]
    fn an_envelope_is_written_as_sns_does() {
        let attributes = Attributes(vec![
            Attribute {
                name: "store".into(),
                data_type: "String".into(),
                content: Content::Text("a\"b".into()),
            },
            Attribute {
                name: "raw".into(),
                data_type: "Binary".into(),
                content: Content::Binary(Bytes::from_static(b"\0")),
            },
        ]);
        let notification = Notification {
            envelope: Envelope::Notification {
                unsubscribe_url: "http://localhost/?Action=Unsubscribe",
            },
            message_id: "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
            topic_arn: "arn:aws:sns:us-east-1:000000000000:t",
            subject: Some("My First Message"),
            message: "Hello\nworld",
            timestamp: Timestamp(1_336_000_000_500),
            sequence: None,
            attributes: &attributes,
        };
        let signature = Signature {
            version: "1",
            bytes: vec![1, 2, 3],
            certificate_url: "http://localhost/cert.pem".into(),
        };
        assert_eq!(
            notification.to_json(Some(&signature)),
            r#"{
  "Type" : "Notification",
  "MessageId" : "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
  "TopicArn" : "arn:aws:sns:us-east-1:000000000000:t",
  "Subject" : "My First Message",
  "Message" : "Hello\nworld",
  "Timestamp" : "2012-05-02T23:06:40.500Z",
  "SignatureVersion" : "1",
  "Signature" : "AQID",
  "SigningCertURL" : "http://localhost/cert.pem",
  "UnsubscribeURL" : "http://localhost/?Action=Unsubscribe",
  "MessageAttributes" : {
    "store" : {"Type":"String","Value":"a\"b"},
    "raw" : {"Type":"Binary","Value":"AA=="}
  }
}"#
        );
        assert_eq!(
            notification.text_to_sign(),
            "Message\nHello\nworld\nMessageId\n22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324\nSubject\nMy First Message\n\
             Timestamp\n2012-05-02T23:06:40.500Z\nTopicArn\narn:aws:sns:us-east-1:000000000000:t\nType\nNotification\n"
        );
        let confirmation = Notification {
            envelope: Envelope::SubscriptionConfirmation {
                token: "2336",
                subscribe_url: "http://localhost/?Action=ConfirmSubscription",
            },
            subject: None,
            attributes: &Attributes(Vec::new()),
            ..notification
        };
        assert_eq!(
            confirmation.text_to_sign(),
            "Message\nHello\nworld\nMessageId\n22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324\n\
             SubscribeURL\nhttp://localhost/?Action=ConfirmSubscription\nTimestamp\n2012-05-02T23:06:40.500Z\nToken\n2336\n\
             TopicArn\narn:aws:sns:us-east-1:000000000000:t\nType\nSubscriptionConfirmation\n"
        );
        assert!(!confirmation.to_json(None).contains("Signature"));
    }
}
