//! Where SNS may deliver to beyond queues. All of it but HTTP endpoints is off until the operator names a server for it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Config, ConfigError};

/// Delivery to endpoints.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Sns {
    /// Which HTTP endpoints may be subscribed: see `sns::egress`.
    pub(crate) endpoints: Vec<String>,
    /// Certificates of authorities beside the system's, as PEM.
    pub(crate) ca_file: PathBuf,
    /// How long an attempt may take, in ms.
    pub(crate) request_timeout_ms: u64,
    /// Attempts at one endpoint at a time.
    pub(crate) lane_concurrency: u64,
    /// Messages for one endpoint that wait in memory.
    pub(crate) lane_waiting_max: u64,
    /// FIFO topics of one virtual host.
    pub(crate) fifo_topics_max: u64,
    /// Subscriptions of one FIFO topic.
    pub(crate) fifo_subscriptions_max: u64,
    /// Filter policies of one topic.
    pub(crate) topic_filter_policies_max: u64,
    /// Filter policies of one virtual host.
    pub(crate) filter_policies_max: u64,
    /// Subscriptions of one virtual host that nobody has confirmed yet.
    pub(crate) pending_subscriptions_max: u64,
    /// Where mail goes.
    pub(crate) email: Email,
    /// Its sender.
    pub(crate) email_from: String,
    /// The user at the mail server; empty: none.
    pub(crate) email_user: String,
    /// The password. Not shown by `Debug`.
    pub(crate) email_password: String,
    /// Where text messages go.
    pub(crate) sms: Gateway,
    /// Where push notifications go.
    pub(crate) push: Gateway,
    /// The header `Authorization` for both gateways. Not shown by `Debug`.
    pub(crate) gateway_authorization: String,
    /// Phone numbers that have opted out.
    pub(crate) opted_out: Vec<String>,
}

impl Default for Sns {
    fn default() -> Self {
        Self {
            endpoints: vec!["http://*".to_owned(), "https://*".to_owned()],
            ca_file: PathBuf::new(),
            request_timeout_ms: 15_000,
            lane_concurrency: 8,
            lane_waiting_max: 64,
            fifo_topics_max: 1_000,
            fifo_subscriptions_max: 100,
            topic_filter_policies_max: 200,
            filter_policies_max: 10_000,
            pending_subscriptions_max: 5_000,
            email: Email::Off,
            email_from: "sns@localhost".to_owned(),
            email_user: String::new(),
            email_password: String::new(),
            sms: Gateway::Off,
            push: Gateway::Off,
            gateway_authorization: String::new(),
            opted_out: Vec::new(),
        }
    }
}

impl std::fmt::Debug for Sns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sns")
            .field("endpoints", &self.endpoints)
            .field("email", &self.email)
            .field("sms", &self.sms)
            .field("push", &self.push)
            .finish_non_exhaustive()
    }
}

/// Where mail goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) enum Email {
    /// Nowhere: refused.
    Off,
    /// Taken and dropped: for tests of programs.
    Discard,
    /// A server.
    Server {
        host: String,
        port: u16,
        security: MailSecurity,
    },
}

/// How the connection to a mail server is secured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MailSecurity {
    /// Not at all: `smtp://`.
    None,
    /// `smtp+starttls://`.
    StartTls,
    /// From the start: `smtps://`.
    Tls,
}

const SCHEMES: [(&str, MailSecurity, u16); 3] = [
    ("smtp://", MailSecurity::None, 25),
    ("smtp+starttls://", MailSecurity::StartTls, 587),
    ("smtps://", MailSecurity::Tls, 465),
];

impl TryFrom<String> for Email {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "off" => return Ok(Self::Off),
            "discard" => return Ok(Self::Discard),
            _ => {}
        }
        for (scheme, security, usual) in SCHEMES {
            let Some(place) = text.strip_prefix(scheme) else {
                continue;
            };
            // As of a URL of HTTP, but for the port that is meant without one.
            let read = sns::egress::Target::read(&format!("http://{place}"));
            let Some(target) = read.filter(|_| !place.contains(['/', '?', '#'])) else {
                continue;
            };
            let port = if place.ends_with(&format!(":{}", target.port)) {
                target.port
            } else {
                usual
            };
            return Ok(Self::Server {
                host: target.host,
                port,
                security,
            });
        }
        Err(format!(
            "{text:?} is none of off, discard, smtp://HOST:PORT, smtp+starttls://HOST:PORT, smtps://HOST:PORT"
        ))
    }
}

impl From<Email> for String {
    fn from(email: Email) -> Self {
        match email {
            Email::Off => "off".to_owned(),
            Email::Discard => "discard".to_owned(),
            Email::Server {
                host,
                port,
                security,
            } => {
                let known = SCHEMES.iter().find(|(_, it, _)| *it == security);
                let scheme = known.map_or("smtp://", |(scheme, ..)| scheme);
                if host.contains(':') {
                    format!("{scheme}[{host}]:{port}")
                } else {
                    format!("{scheme}{host}:{port}")
                }
            }
        }
    }
}

/// An HTTP gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) enum Gateway {
    /// There is none: refused.
    Off,
    /// Taken and dropped: for tests of programs.
    Discard,
    /// Its URL.
    Url(String),
}

impl TryFrom<String> for Gateway {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "off" => Ok(Self::Off),
            "discard" => Ok(Self::Discard),
            url if sns::egress::Target::read(url).is_some() => Ok(Self::Url(text)),
            _ => Err(format!("{text:?} is none of off, discard, and a URL")),
        }
    }
}

impl From<Gateway> for String {
    fn from(gateway: Gateway) -> Self {
        match gateway {
            Gateway::Off => "off".to_owned(),
            Gateway::Discard => "discard".to_owned(),
            Gateway::Url(url) => url,
        }
    }
}

impl Config {
    /// Whether delivery to endpoints can be as it is configured.
    pub(super) fn check_sns(&self) -> Result<(), ConfigError> {
        let fault = |key: &'static str, fault: String| Err(ConfigError::Value { key, fault });
        let this = &self.sns;
        if let Err(rule) = sns::egress::Egress::read(this.endpoints.iter().map(String::as_str)) {
            let words = format!(
                "has {rule:?}, which is not a rule such as \"https://*\", \"https://*.example.org\" or \"http://127.0.0.1:*\""
            );
            return fault("sns.endpoints", words);
        }
        if !this.email_from.contains('@') || this.email_from.contains(['<', '>', '\r', '\n', ' ']) {
            return fault("sns.email_from", "must be a mailbox".to_owned());
        }
        if this.email_user.is_empty() && !this.email_password.is_empty() {
            let words = "is given without sns.email_user, so nobody would log in with it";
            return fault("sns.email_password", words.to_owned());
        }
        let is_header = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
        if !this.gateway_authorization.bytes().all(is_header) {
            let words = "must be visible ASCII characters and spaces".to_owned();
            return fault("sns.gateway_authorization", words);
        }
        let is_number = |number: &&String| {
            let digits = number.strip_prefix('+');
            !digits.is_some_and(|it| {
                (2..=15).contains(&it.len()) && it.bytes().all(|b| b.is_ascii_digit())
            })
        };
        if let Some(bad) = this.opted_out.iter().find(is_number) {
            let words =
                format!("has {bad:?}, which is not a phone number such as \"+4915112345678\"");
            return fault("sns.opted_out", words);
        }
        Ok(())
    }

    /// What the operations of SNS know of it.
    pub(crate) fn for_sns(&self) -> aws::SnsSettings {
        aws::SnsSettings {
            endpoints: self.sns.endpoints.clone().into(),
            email: self.sns.email != Email::Off,
            sms: self.sns.sms != Gateway::Off,
            push: self.sns.push != Gateway::Off,
            push_discarded: self.sns.push == Gateway::Discard,
            opted_out: self.sns.opted_out.clone().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_urls() {
        for text in [
            "off",
            "discard",
            "smtp://mail.example.org:25",
            "smtp+starttls://mail.example.org:587",
            "smtps://mail.example.org:465",
            "smtp://[::1]:2525",
        ] {
            let read = Email::try_from(text.to_owned()).expect(text);
            assert_eq!(String::from(read), text);
        }
        let usual = Email::try_from("smtps://mail.example.org".to_owned()).expect("a URL");
        assert_eq!(String::from(usual), "smtps://mail.example.org:465");
        let usual = Email::try_from("smtp://[2001:db8::1]".to_owned()).expect("a URL");
        assert_eq!(String::from(usual), "smtp://[2001:db8::1]:25");
        for bad in [
            "",
            "mail.example.org",
            "smtp://",
            "smtp://a:b",
            "smtp://a:0",
            "smtp://a b",
            "smtp://ann@a",
            "smtp://a/b",
            "http://a",
        ] {
            assert!(Email::try_from(bad.to_owned()).is_err(), "{bad}");
        }
        assert!(Gateway::try_from("https://sms.example.org/send".to_owned()).is_ok());
        assert!(Gateway::try_from("sms.example.org".to_owned()).is_err());
    }
}
