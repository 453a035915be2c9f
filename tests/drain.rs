//! SIGTERM: everyone is told in the protocol's own words, what is in flight is confirmed or was never promised.

use std::time::{Duration, Instant};

use ::mqtt::codec::{Packet, Publish, ReasonCode, Version as MqttVersion};
use ::stomp::{Version as StompVersion, codec::Verb};
use amqp091::codec::{Method, connection};
use bytes::Bytes;
use lapin::{options::QueueBindOptions, types::FieldTable};

use crate::{
    client::{Amqp, AmqpFrames, Mqtt, Stomp, Transport, dial, wait},
    server::Server,
};

#[test]
fn everyone_is_told() -> anyhow::Result<()> {
    let mut server = Server::start();
    let tcp = |door: &str| Transport::tcp(server.door(door));
    let mut mqtt5 = Mqtt::clean(tcp("mqtt"), MqttVersion::V5, "five")?;
    let mut mqtt3 = Mqtt::clean(tcp("mqtt"), MqttVersion::V311, "three")?;
    let mut stomp = Stomp::open(tcp("stomp"), StompVersion::V1_2)?;
    let mut amqp = AmqpFrames::open(tcp("amqp"))?;
    // A connection that has said nothing must not hold up the end.
    let _silent = dial(server.door("mqtt"));
    let began = Instant::now();
    server.terminate();

    let Packet::Disconnect(farewell) = mqtt5.packet()? else {
        panic!("MQTT 5 has a DISCONNECT for this");
    };
    assert_eq!(farewell.reason, ReasonCode(0x8b), "server shutting down");
    assert!(mqtt5.packet_or_end()?.is_none());
    assert!(mqtt3.packet_or_end()?.is_none(), "MQTT 3.1.1 has no word");
    let error = stomp.frame()?;
    assert_eq!(error.verb, Verb::Error);
    assert!(stomp.frame_or_end()?.is_none());
    let Method::ConnectionClose(close) = amqp.method()? else {
        panic!("AMQP has connection.close for this");
    };
    assert_eq!(close.reply_code, 320, "connection-forced");
    amqp.say(0, connection::CloseOk {})?;
    assert!(amqp.frame_or_end()?.is_none());

    assert_eq!(server.ended(), Some(0), "{}", server.log());
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    Ok(())
}

#[test]
fn safe_before_confirm_in_a_drain() -> anyhow::Result<()> {
    let mut server = Server::start();
    wait(async {
        let client = Amqp::open(server.door("amqp")).await?;
        client.declare("flood", &[]).await?;
        let options = QueueBindOptions::default();
        client
            .channel
            .queue_bind(
                "flood".into(),
                "amq.topic".into(),
                "flood".into(),
                options,
                FieldTable::default(),
            )
            .await?;
        anyhow::Ok(())
    })?;
    let transport = Transport::tcp(server.door("mqtt"));
    let mut publisher = Mqtt::clean(transport, MqttVersion::V5, "flood")?;
    let mut confirmed = 0u16;
    for packet_id in 1..=800 {
        publisher.send(&Packet::Publish(Publish {
            dup: false,
            qos: 1,
            retain: false,
            topic: "flood".into(),
            packet_id: Some(packet_id),
            properties: Default::default(),
            payload: Bytes::from(packet_id.to_be_bytes().to_vec()),
        }))?;
    }
    // In the middle of it.
    while confirmed < 10 {
        if let Packet::PubAck(ack) = publisher.packet()? {
            confirmed = ack.packet_id;
        }
    }
    server.terminate();
    while let Some(packet) = publisher.packet_or_end()? {
        if let Packet::PubAck(ack) = packet {
            assert_eq!(ack.packet_id, confirmed + 1, "in order");
            confirmed = ack.packet_id;
        }
    }
    assert_eq!(server.ended(), Some(0));
    let server = server.restart();
    wait(async {
        let client = Amqp::open(server.door("amqp")).await?;
        let count = client.declare("flood", &[]).await?;
        assert!(count >= u32::from(confirmed), "{count} of {confirmed}");
        for number in 1..=count {
            let got = client.get("flood").await?.expect("it counts so many");
            assert_eq!(got.data, (number as u16).to_be_bytes());
        }
        anyhow::Ok(())
    })?;
    server.stop();
    Ok(())
}
