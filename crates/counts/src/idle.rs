//! What a connection holds of the server's memory while it says nothing: the bytes that were asked of the allocator, without
//! its rounding, with the connection's share in tables that grow by doubling.
//!
//! The bounds are a little above what it is, so that a field too many is noticed: a hundred thousand connections pay for it.

use crate::{
    client::{amqp::Amqp, mqtt::Mqtt},
    meter::{
        self,
        ledger::{self, Line},
    },
    served::Served,
};

/// Connections before those that are measured: what all share is there by then.
const FIRST: u64 = 120;
const MEASURED: u64 = 300;
/// Set in the environment, it has each allocation that is held listed, with where it was made (`--nocapture`).
const BREAKDOWN: &str = "BREAKDOWN";

/// Bytes held for each of many connections.
fn held<T>(
    name: &str,
    mut connect: impl FnMut(&mut Served, &str) -> anyhow::Result<T>,
) -> anyhow::Result<i64> {
    let mut served = Served::start()?;
    served.meter_all();
    let (mut crowd, mut before) = (Vec::new(), 0);
    for number in 0..FIRST + MEASURED {
        if number == FIRST {
            before = meter::held();
            if std::env::var_os(BREAKDOWN).is_some() {
                ledger::open();
            }
        }
        crowd.push(connect(&mut served, &format!("idle-{number:05}"))?);
    }
    let held = (meter::held() - before) / MEASURED as i64;
    if std::env::var_os(BREAKDOWN).is_some() {
        show(name, &ledger::close());
    }
    Ok(held)
}

/// Prints what is held for each connection, and where it was asked for.
fn show(name: &str, lines: &[Line]) {
    let each = |sum: usize| sum as f64 / MEASURED as f64;
    let sum = |of: fn(usize) -> usize| {
        lines
            .iter()
            .map(|line| of(line.len) * line.count)
            .sum::<usize>()
    };
    println!(
        "\n{name}: {:.0} bytes each, as the allocator rounds them {:.0}; bytes, so many a connection, where",
        each(sum(|len| len)),
        each(sum(ledger::rounded))
    );
    for line in lines
        .iter()
        .filter(|line| line.len * line.count >= 8 * MEASURED as usize)
    {
        println!("{:8} x {:4.2}  {}", line.len, each(line.count), line.place);
    }
}

/// One test for all, as there is one meter.
#[test]
fn an_idle_connection_holds_little() -> anyhow::Result<()> {
    let silent = held("silent", |served, name| {
        Mqtt::connect(served, name, 0, false)
    })?;
    let published = held("published", |served, name| {
        let mut client = Mqtt::connect(served, name, 0, false)?;
        client.publish(100, 1000)?;
        for _ in 0..4 {
            served.work();
            client.look(0, &mut Vec::new())?;
        }
        Ok(client)
    })?;
    let subscribed = held("subscribed", |served, name| {
        let mut client = Mqtt::connect(served, name, 0, false)?;
        client.subscribe(served)?;
        Ok(client)
    })?;
    let amqp = held("AMQP", |served, _| Amqp::connect(served))?;
    println!("silent {silent}, published {published}, subscribed {subscribed}, AMQP {amqp}");
    assert!(silent <= 1_760, "MQTT: {silent}");
    // It knows the topics that it published to.
    assert!(
        published <= silent + 450,
        "MQTT, having published: {published}"
    );
    assert!(
        subscribed <= 1_830,
        "MQTT, with a subscription: {subscribed}"
    );
    assert!(amqp <= 2_500, "AMQP with a channel: {amqp}");
    Ok(())
}
