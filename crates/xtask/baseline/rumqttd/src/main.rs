//! rumqttd as `cargo xtask bench --peers rumqttd` compares it: one MQTT 3.1.1 listener at the address that is given, everything
//! in memory, and the sizes of its own default configuration (rumqttd.toml of 0.20) except for the payload and the window.
#![forbid(unsafe_code)]

use std::{collections::HashMap, error::Error};

use rumqttd::{Broker, Config, ConnectionSettings, RouterConfig, ServerSettings};

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).ok_or("the address to listen at")?;
    let server = ServerSettings {
        name: "v4-1".to_owned(),
        listen: address.parse()?,
        tls: None,
        next_connection_delay_ms: 1,
        connections: ConnectionSettings {
            connection_timeout_ms: 60_000,
            max_payload_size: 1 << 20,
            max_inflight_count: 1_000,
            auth: None,
            external_auth: None,
            dynamic_filters: true,
        },
    };
    let config = Config {
        router: RouterConfig {
            max_connections: 10_010,
            max_outgoing_packet_count: 200,
            max_segment_size: 100 << 20,
            max_segment_count: 10,
            ..RouterConfig::default()
        },
        v4: Some(HashMap::from([("1".to_owned(), server)])),
        ..Config::default()
    };
    Broker::new(config).start()?;
    Ok(())
}
