//! SQS, SNS and Kinesis through the AWS SDK for Rust, as `guest`. A client asks once: a retry would hide a refusal.

use anyhow::Context as _;
use aws_sdk_sqs::{
    config::{Credentials, Region, retry::RetryConfig},
    types::{Message, MessageAttributeValue, QueueAttributeName},
};
use aws_smithy_http_client::Builder;

use crate::server::Server;

/// A client of a service on a server, with a key and in a region.
macro_rules! client {
    ($service:ident, $server:expr, $key:expr, $region:expr) => {{
        let config = $service::Config::builder()
            .behavior_version_latest()
            .region(Region::new($region))
            .credentials_provider(Credentials::new($key, "guest", None, None, "test"))
            .endpoint_url(format!("http://{}", $server.door("aws")))
            .http_client(Builder::new().build_http())
            .retry_config(RetryConfig::disabled())
            .build();
        $service::Client::from_conf(config)
    }};
}

pub(crate) fn sns(server: &Server) -> aws_sdk_sns::Client {
    sns_of(server, "guest")
}

pub(crate) fn sns_of(server: &Server, key: &'static str) -> aws_sdk_sns::Client {
    client!(aws_sdk_sns, server, key, "us-east-1")
}

pub(crate) fn kinesis(server: &Server) -> aws_sdk_kinesis::Client {
    kinesis_of(server, "guest")
}

pub(crate) fn kinesis_of(server: &Server, key: &'static str) -> aws_sdk_kinesis::Client {
    client!(aws_sdk_kinesis, server, key, "us-east-1")
}

/// A client of SQS.
pub(crate) struct Sqs(pub(crate) aws_sdk_sqs::Client);

impl Sqs {
    pub(crate) fn of(server: &Server) -> Self {
        Self::of_account(server, "guest", "us-east-1")
    }

    pub(crate) fn of_account(server: &Server, key: &'static str, region: &'static str) -> Self {
        Self(client!(aws_sdk_sqs, server, key, region))
    }

    /// Makes a queue (of kind FIFO, if its name says so); gives its URL.
    pub(crate) async fn make(
        &self,
        name: &str,
        attributes: &[(QueueAttributeName, &str)],
    ) -> anyhow::Result<String> {
        let mut request = self.0.create_queue().queue_name(name);
        if name.ends_with(".fifo") {
            request = request.attributes(QueueAttributeName::FifoQueue, "true");
        }
        for (attribute, value) in attributes {
            request = request.attributes(attribute.clone(), *value);
        }
        let queue = request.send().await?;
        queue.queue_url.context("a queue has a URL")
    }

    pub(crate) async fn url(&self, name: &str) -> anyhow::Result<String> {
        let answer = self.0.get_queue_url().queue_name(name).send().await?;
        answer.queue_url.context("a queue has a URL")
    }

    /// One attribute of a queue.
    pub(crate) async fn attribute(&self, url: &str, name: &str) -> anyhow::Result<String> {
        let request = self.0.get_queue_attributes().queue_url(url);
        let request = request.attribute_names(QueueAttributeName::All);
        let attributes = request.send().await?.attributes.unwrap_or_default();
        let value = attributes.get(&QueueAttributeName::from(name));
        Ok(value.context(name.to_owned())?.clone())
    }

    pub(crate) async fn send(&self, url: &str, body: &str) -> anyhow::Result<()> {
        let request = self.0.send_message().queue_url(url).message_body(body);
        request.send().await?;
        Ok(())
    }

    /// Up to ten messages with all their attributes, waiting for the first.
    pub(crate) async fn receive(&self, url: &str) -> anyhow::Result<Vec<Message>> {
        self.receive_within(url, 10).await
    }

    /// The same, waiting so many seconds.
    pub(crate) async fn receive_within(
        &self,
        url: &str,
        seconds: i32,
    ) -> anyhow::Result<Vec<Message>> {
        let request = self.0.receive_message().queue_url(url);
        let request = request
            .max_number_of_messages(10)
            .wait_time_seconds(seconds);
        let request = request.message_attribute_names("All");
        let all = aws_sdk_sqs::types::MessageSystemAttributeName::All;
        let answer = request.message_system_attribute_names(all).send().await?;
        Ok(answer.messages.unwrap_or_default())
    }

    pub(crate) async fn delete(&self, url: &str, message: &Message) -> anyhow::Result<()> {
        let handle = message.receipt_handle().context("a receipt handle")?;
        let request = self.0.delete_message().queue_url(url);
        request.receipt_handle(handle).send().await?;
        Ok(())
    }
}

pub(crate) fn bodies(messages: &[Message]) -> Vec<&str> {
    messages.iter().filter_map(Message::body).collect()
}

/// An attribute of type `String`.
pub(crate) fn string(value: &str) -> anyhow::Result<MessageAttributeValue> {
    let builder = MessageAttributeValue::builder();
    Ok(builder.data_type("String").string_value(value).build()?)
}
