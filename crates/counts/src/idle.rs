//! What a connection holds of the server's memory while it says nothing: the bytes that were asked of the allocator, without
//! its rounding, with the connection's share in tables that grow by doubling.
//!
//! The bounds are a little above what it is, so that a field too many is noticed: a hundred thousand connections pay for it.

use crate::{
    client::{amqp::Amqp, mqtt::Mqtt},
    meter,
    served::Served,
};

/// Connections before those that are measured: what all share is there by then.
const FIRST: u64 = 120;
const MEASURED: u64 = 300;

/// Bytes held for each of many connections.
fn held<T>(mut connect: impl FnMut(&mut Served, &str) -> anyhow::Result<T>) -> anyhow::Result<i64> {
    let mut served = Served::start()?;
    served.meter_all();
    let (mut crowd, mut before) = (Vec::new(), 0);
    for number in 0..FIRST + MEASURED {
        if number == FIRST {
            before = meter::held();
        }
        crowd.push(connect(&mut served, &format!("idle-{number:05}"))?);
    }
    Ok((meter::held() - before) / MEASURED as i64)
}

/// One test for all, as there is one meter.
#[test]
fn an_idle_connection_holds_little() -> anyhow::Result<()> {
    let silent = held(|served, name| Mqtt::connect(served, name, 0, false))?;
    let published = held(|served, name| {
        let mut client = Mqtt::connect(served, name, 0, false)?;
        client.publish(100, 1000)?;
        for _ in 0..4 {
            served.work();
            client.look(0, &mut Vec::new())?;
        }
        Ok(client)
    })?;
    let subscribed = held(|served, name| {
        let mut client = Mqtt::connect(served, name, 0, false)?;
        client.subscribe(served)?;
        Ok(client)
    })?;
    let amqp = held(|served, _| Amqp::connect(served))?;
    println!("silent {silent}, published {published}, subscribed {subscribed}, AMQP {amqp}");
    assert!(silent <= 3_400, "MQTT: {silent}");
    // It knows the topics that it published to.
    assert!(
        published <= silent + 450,
        "MQTT, having published: {published}"
    );
    assert!(
        subscribed <= 3_800,
        "MQTT, with a subscription: {subscribed}"
    );
    assert!(amqp <= 3_200, "AMQP with a channel: {amqp}");
    Ok(())
}
