//! AMQP 0-9-1 over lapin: one connection with one channel in confirm mode, and consumers as queues of deliveries.

use std::{collections::BTreeMap, future::Future, net::SocketAddr, sync::LazyLock};

use anyhow::{Context as _, ensure};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Consumer,
    message::{Delivery, DeliveryResult},
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicGetOptions, BasicPublishOptions,
        ConfirmSelectOptions, QueueBindOptions, QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable},
};
use tokio::{
    runtime::{Builder, Runtime},
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
};

use crate::server::LIMIT;

/// lapin's work goes on here while a test blocks.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(2).enable_all();
    builder.build().expect("the system has threads")
});

/// Waits for something of AMQP.
pub(crate) fn wait<F: Future>(future: F) -> F::Output {
    RUNTIME.block_on(async {
        tokio::time::timeout(LIMIT, future)
            .await
            .expect("AMQP answers in time")
    })
}

/// A table of arguments or headers.
pub(crate) fn table(rows: &[(&str, AMQPValue)]) -> FieldTable {
    let rows = rows
        .iter()
        .map(|(name, value)| ((*name).into(), value.clone()));
    BTreeMap::from_iter(rows).into()
}

/// A string in a table.
pub(crate) fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

/// A message that is kept.
pub(crate) fn persistent() -> BasicProperties {
    BasicProperties::default().with_delivery_mode(2)
}

/// A queue that is kept.
pub(crate) fn durable() -> QueueDeclareOptions {
    QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    }
}

pub(crate) struct Amqp {
    pub(crate) connection: Connection,
    pub(crate) channel: Channel,
}

impl Amqp {
    /// Connects as that user.
    pub(crate) async fn login(
        address: SocketAddr,
        user: &str,
        password: &str,
    ) -> lapin::Result<Connection> {
        let url = format!("amqp://{user}:{password}@{address}/%2f");
        Connection::connect(&url, ConnectionProperties::default()).await
    }

    /// Connects as `guest`, and asks for confirms.
    pub(crate) async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let connection = Self::login(address, "guest", "guest").await?;
        let channel = connection.create_channel().await?;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await?;
        Ok(Self {
            connection,
            channel,
        })
    }

    /// Declares a durable queue; gives its count of messages.
    pub(crate) async fn declare(
        &self,
        queue: &str,
        rows: &[(&str, AMQPValue)],
    ) -> anyhow::Result<u32> {
        let queue = self
            .channel
            .queue_declare(queue.into(), durable(), table(rows))
            .await?;
        Ok(queue.message_count())
    }

    pub(crate) async fn bind(&self, queue: &str, exchange: &str, key: &str) -> anyhow::Result<()> {
        let options = QueueBindOptions::default();
        let (queue, exchange, key) = (queue.into(), exchange.into(), key.into());
        self.channel
            .queue_bind(queue, exchange, key, options, FieldTable::default())
            .await?;
        Ok(())
    }

    /// Publishes, with the broker's answer.
    pub(crate) async fn publish_with(
        &self,
        exchange: &str,
        key: &str,
        body: &[u8],
        properties: BasicProperties,
    ) -> anyhow::Result<Confirmation> {
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let confirm = self
            .channel
            .basic_publish(exchange.into(), key.into(), options, body, properties)
            .await?;
        Ok(confirm.await?)
    }

    /// Publishes a message that is kept, and that must be taken.
    pub(crate) async fn publish(
        &self,
        exchange: &str,
        key: &str,
        body: &[u8],
    ) -> anyhow::Result<()> {
        let confirmation = self.publish_with(exchange, key, body, persistent()).await?;
        ensure!(
            confirmation == Confirmation::Ack(None),
            "not confirmed: {confirmation:?}"
        );
        Ok(())
    }

    /// Takes one message without acknowledgement.
    pub(crate) async fn get(&self, queue: &str) -> anyhow::Result<Option<Delivery>> {
        let options = BasicGetOptions { no_ack: true };
        let got = self.channel.basic_get(queue.into(), options).await?;
        Ok(got.map(|got| got.delivery))
    }

    pub(crate) async fn consume(&self, queue: &str) -> anyhow::Result<Deliveries> {
        self.consume_with(queue, BasicConsumeOptions::default())
            .await
    }

    pub(crate) async fn consume_with(
        &self,
        queue: &str,
        options: BasicConsumeOptions,
    ) -> anyhow::Result<Deliveries> {
        self.consume_from(queue, options, FieldTable::default())
            .await
    }

    /// The same with arguments.
    pub(crate) async fn consume_from(
        &self,
        queue: &str,
        options: BasicConsumeOptions,
        arguments: FieldTable,
    ) -> anyhow::Result<Deliveries> {
        let consumer = self
            .channel
            .basic_consume(queue.into(), "".into(), options, arguments)
            .await?;
        let (sender, inbox) = unbounded_channel();
        // The delegate is called in the order of delivery; only what it returns runs beside others.
        consumer.set_delegate(move |result: DeliveryResult| {
            let _ = sender.send(result);
            async {}
        });
        Ok(Deliveries {
            inbox,
            _consumer: consumer,
        })
    }
}

/// What a consumer is given, in order.
pub(crate) struct Deliveries {
    inbox: UnboundedReceiver<DeliveryResult>,
    /// Cancelled when it is dropped.
    _consumer: Consumer,
}

impl Deliveries {
    /// The next one, to be settled.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Delivery> {
        let result = self.inbox.recv().await.context("the consumer has ended")?;
        result?.context("the consumer was cancelled")
    }

    /// The next one, accepted.
    pub(crate) async fn accept(&mut self) -> anyhow::Result<Delivery> {
        let delivery = self.next().await?;
        delivery.ack(BasicAckOptions::default()).await?;
        Ok(delivery)
    }
}
