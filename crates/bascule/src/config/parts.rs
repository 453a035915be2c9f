//! What each crate is given: settings in its own words.

use std::sync::Arc;

use super::{
    Config,
    sections::{AmqpChannelFlow, Direct, MqttDialect, MqttManners, StompDialect, UnknownHost},
};
use crate::doors::unreadable;

/// Room for topic and properties beside the longest body of an MQTT packet, in bytes.
const MQTT_HEAD_ROOM: u64 = 128 << 10;
/// The longest packet that MQTT can have (MQTT 5, 1.5.5), in bytes.
const MQTT_PACKET_LEN_MAX: u64 = 268_435_460;
/// And the longest body, beside nothing else.
const MQTT_BODY_LEN_MAX: u64 = 268_435_455;

impl Config {
    /// The node's part.
    pub(crate) fn for_node(&self) -> node::Config {
        node::Config {
            data_dir: self.data.clone(),
            broker: broker::Config {
                outbox_bytes_max: self.memory.outbox_bytes_max,
                outbox_qos0_bytes_max: self.memory.outbox_qos0_bytes_max,
                transient_bytes_max: self.memory.transient_bytes_max,
                queues_max: self.limits.queues_max,
                connection_queues_max: self.limits.connection_queues_max,
                exchanges_max: self.limits.exchanges_max,
                bindings_max: self.limits.bindings_max,
                unsettled_max: u32::try_from(self.limits.unsettled_max)
                    .expect("checked at the start"),
                clients_max: self.limits.clients_max,
                client_subscriptions_max: self.limits.subscriptions_max,
                client_queue_length_max: self.limits.client_queue_length_max,
                retained_max: self.limits.retained_max,
                fifo_topics_max: self.sns.fifo_topics_max,
                fifo_subscriptions_max: self.sns.fifo_subscriptions_max,
                topic_policies_max: self.sns.topic_filter_policies_max,
                policies_max: self.sns.filter_policies_max,
                pending_subscriptions_max: self.sns.pending_subscriptions_max,
                ..broker::Config::default()
            },
            journal: journal::Config {
                segment_len: self.journal.segment_bytes,
                staged_bytes_max: self.memory.staged_bytes_max as usize,
                cache_bytes_max: self.memory.bodies_bytes_max as usize,
                snapshot_every_bytes: self.journal.snapshot_every_bytes,
                reserve_len: self.journal.reserve_bytes,
                space_low_bytes: self.journal.free_bytes_min,
                clock_off_max_ms: self.journal.clock_off_max_s * 1000,
                direct: match self.journal.direct {
                    Direct::Auto => journal::Direct::Auto,
                    Direct::Never => journal::Direct::Never,
                },
                // The standby waits for five quarters of it.
                lease_ms: self.pair.failover_ms / 5 * 4,
                ..journal::Config::default()
            },
            vhosts: self.auth.vhosts.clone(),
            stream_file_bytes: self.journal.stream_file_bytes,
            scrub_bytes_per_s: self.journal.scrub_bytes_per_s,
            connections_max: self.limits.connections_max as usize,
            gate: Some(Arc::new(sns::Gate::new(&self.for_aws(), unreadable))),
            ..node::Config::default()
        }
    }

    /// The connection loop's part.
    pub(crate) fn for_net(&self) -> net::Limits {
        net::Limits {
            connections_max: self.limits.connections_max as usize,
            accepts_per_s: u32::try_from(self.limits.accepts_per_s).expect("checked at the start"),
            address_accepts_per_s: u32::try_from(self.limits.address_accepts_per_s)
                .expect("checked at the start"),
            address_connections_max: self.limits.address_connections_max as usize,
            loopback_limited: self.limits.loopback_limited,
            login_len_max: self.limits.login_bytes_max as usize,
            login_pool_len_max: self.memory.logins_bytes_max as usize,
            stall_timeout_ms: self.limits.stall_timeout_ms,
            http_bodies_len_max: self.memory.requests_bytes_max as usize,
            ..net::Limits::default()
        }
    }

    /// The MQTT sessions' part.
    pub(crate) fn for_mqtt(&self) -> mqtt::Config {
        let packet = self.limits.message_bytes_max + MQTT_HEAD_ROOM;
        let expiry = u32::try_from(self.mqtt.session_expiry_max_s).expect("checked at the start");
        let short = |value: u64| u16::try_from(value).expect("checked at the start");
        let receive_max = short(self.mqtt.receive_max);
        let topic_alias_max = short(self.mqtt.topic_alias_max);
        mqtt::Config {
            dialect: match self.mqtt.dialect {
                MqttDialect::Levels => mqtt::Dialect::Levels,
                MqttDialect::RabbitMq => mqtt::Dialect::RabbitMq,
            },
            connect_timeout_ms: self.limits.login_timeout_ms,
            connect_len_max: self.limits.login_bytes_max as usize,
            packet_len_max: packet.min(MQTT_PACKET_LEN_MAX) as usize,
            body_len_max: self.limits.message_bytes_max.min(MQTT_BODY_LEN_MAX) as usize,
            session_expiry_max_s: expiry,
            keep_alive_max_s: short(self.mqtt.keep_alive_max_s),
            receive_max,
            window_max: receive_max,
            topic_alias_in_max: topic_alias_max,
            topic_alias_out_max: topic_alias_max,
            properties_max: self.mqtt.properties_max as usize,
            client_id_len_max: self.mqtt.client_id_bytes_max as usize,
            reason_strings: self.mqtt.reason_strings,
            manners: match self.mqtt.manners {
                MqttManners::Standard => mqtt::Manners::Standard,
                MqttManners::Mosquitto => mqtt::Manners::Mosquitto,
            },
            ..mqtt::Config::default()
        }
    }

    /// The AMQP sessions' part.
    pub(crate) fn for_amqp(&self) -> amqp091::Config {
        let defaults = amqp091::Config::default();
        amqp091::Config {
            frame_len_max: u32::try_from(self.amqp.frame_bytes_max).expect("checked at the start"),
            channel_max: u16::try_from(self.amqp.channels_max).expect("checked at the start"),
            heartbeat_s: u16::try_from(self.amqp.heartbeat_s).expect("checked at the start"),
            product: self.amqp.product.as_str().into(),
            product_version: if self.amqp.product_version.is_empty() {
                defaults.product_version.clone()
            } else {
                self.amqp.product_version.as_str().into()
            },
            channel_flow: match self.amqp.channel_flow {
                AmqpChannelFlow::Honour => amqp091::ChannelFlow::Honour,
                AmqpChannelFlow::Refuse => amqp091::ChannelFlow::Refuse,
            },
            handshake_timeout_ms: self.limits.login_timeout_ms,
            message_len_max: self.limits.message_bytes_max,
            // At least one body of the longest kind must fit.
            assembling_len_max: defaults
                .assembling_len_max
                .max(self.limits.message_bytes_max),
            ..defaults
        }
    }

    /// The STOMP sessions' part.
    pub(crate) fn for_stomp(&self) -> stomp::Config {
        let heart_beat_ms = u32::try_from(self.stomp.heart_beat_ms).expect("checked at the start");
        stomp::Config {
            dialect: match self.stomp.dialect {
                StompDialect::Both => stomp::Dialect::Both,
                StompDialect::RabbitMq => stomp::Dialect::RabbitMq,
                StompDialect::ActiveMq => stomp::Dialect::ActiveMq,
            },
            unknown_host: match self.stomp.unknown_host {
                UnknownHost::Default => stomp::UnknownHost::Default,
                UnknownHost::Refuse => stomp::UnknownHost::Refuse,
            },
            connect_timeout_ms: self.limits.login_timeout_ms,
            body_len_max: self.limits.message_bytes_max as usize,
            heart_beat_send_ms: heart_beat_ms,
            heart_beat_receive_ms: heart_beat_ms,
            ..stomp::Config::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_defaults_are_those_of_the_crates() {
        let config = Config::default();
        assert_eq!(config.for_net(), net::Limits::default());
        let mqtt = |config: &mqtt::Config| format!("{config:?}");
        assert_eq!(mqtt(&config.for_mqtt()), mqtt(&mqtt::Config::default()));
        assert_eq!(config.for_amqp(), amqp091::Config::default());
        assert_eq!(config.for_node().broker, broker::Config::default());
        let debug = |node: &node::Config| {
            format!(
                "{:?} {:?} {:?}",
                node.journal, node.vhosts, node.connections_max
            )
        };
        assert_eq!(debug(&config.for_node()), debug(&node::Config::default()));
        assert_eq!(config.for_aws(), aws::Settings::default());
        let stomp = |config: &stomp::Config| format!("{config:?}");
        assert_eq!(stomp(&config.for_stomp()), stomp(&stomp::Config::default()));
    }

    #[test]
    fn dialects_are_those_of_the_crates() {
        let mut config = Config::default();
        for (named, meant) in [
            (MqttDialect::Levels, mqtt::Dialect::Levels),
            (MqttDialect::RabbitMq, mqtt::Dialect::RabbitMq),
        ] {
            config.mqtt.dialect = named;
            assert_eq!(config.for_mqtt().dialect, meant);
        }
        for (named, meant) in [
            (MqttManners::Standard, mqtt::Manners::Standard),
            (MqttManners::Mosquitto, mqtt::Manners::Mosquitto),
        ] {
            config.mqtt.manners = named;
            assert_eq!(config.for_mqtt().manners, meant);
        }
        for (named, meant) in [
            (AmqpChannelFlow::Honour, amqp091::ChannelFlow::Honour),
            (AmqpChannelFlow::Refuse, amqp091::ChannelFlow::Refuse),
        ] {
            config.amqp.channel_flow = named;
            assert_eq!(config.for_amqp().channel_flow, meant);
        }
    }

    #[test]
    fn the_bounds_are_possible_for_the_crates() {
        let mut config = Config::default();
        for bytes in [1 << 10, 512 << 20] {
            config.limits.message_bytes_max = bytes;
            assert_eq!(config.for_mqtt().check(), Ok(()));
        }
    }
}
