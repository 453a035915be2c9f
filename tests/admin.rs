//! The admin API: streams and consumer groups by HTTP, beside the protocols, and after a crash.

use std::{
    io::{Read as _, Write as _},
    net::SocketAddr,
};

use ::mqtt::codec::Version as MqttVersion;
use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use crate::{
    client::{Mqtt, Transport, dial},
    server::Server,
};

/// `guest:guest`.
const GUEST: &str = "Basic Z3Vlc3Q6Z3Vlc3Q=";

/// Asks; gives the status and the body.
fn ask(address: SocketAddr, line: &str, login: &str, body: &str) -> anyhow::Result<(u16, Value)> {
    let mut socket = dial(address);
    let head = format!(
        "{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: {login}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    socket.write_all(head.as_bytes())?;
    socket.write_all(body.as_bytes())?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    let status = answer.get(9..12).context("a status")?.parse()?;
    let (_, body) = answer.split_once("\r\n\r\n").context("a head")?;
    let body = if body.is_empty() {
        Value::Null
    } else {
        serde_json::from_str(body)?
    };
    Ok((status, body))
}

pub(crate) fn done(address: SocketAddr, line: &str, body: &str) -> anyhow::Result<Value> {
    let (status, body) = ask(address, line, GUEST, body)?;
    ensure!((200..300).contains(&status), "{line}: {status} {body}");
    Ok(body)
}

#[test]
fn a_worker_leases_a_shard_reads_it_and_goes_on_after_a_crash() -> anyhow::Result<()> {
    let mut server = Server::start();
    let http = server.door("http");
    let made = done(http, "PUT /api/streams/log", r#"{"shards":1}"#)?;
    assert_eq!(made["shards"][0]["shard"], 0);
    let mut mqtt = Mqtt::clean(
        Transport::tcp(server.door("mqtt")),
        MqttVersion::V5,
        "writer",
    )?;
    for body in ["a", "b", "c"] {
        mqtt.publish("$stream/log/key", body, 1)?;
    }
    done(
        http,
        "PUT /api/streams/log/groups/w",
        r#"{"start":"first"}"#,
    )?;
    let shard = "/api/streams/log/groups/w/shards/0";
    let leased = done(
        http,
        &format!("POST {shard}/lease"),
        r#"{"owner":"one","ms":60000}"#,
    )?;
    assert_eq!(
        (&leased["next"], &leased["owner"]),
        (&json!(0), &json!("one"))
    );
    let (status, _) = ask(
        http,
        &format!("POST {shard}/lease"),
        GUEST,
        r#"{"owner":"two","ms":60000}"#,
    )?;
    assert_eq!(status, 409, "another's lease");
    let read = done(
        http,
        "GET /api/streams/log/shards/0/records?from=offset:0&limit=2",
        "",
    )?;
    assert_eq!(read["records"][1]["text"], "b");
    assert_eq!(read["records"][1]["key"], "key");
    assert_eq!(read["next"], 2);
    done(
        http,
        &format!("POST {shard}/checkpoint"),
        r#"{"owner":"one","next":2}"#,
    )?;
    server.kill();
    let server = server.restart();
    let http = server.door("http");
    let group = done(http, "GET /api/streams/log/groups/w", "")?;
    assert_eq!(group["shards"][0]["next"], 2);
    assert_eq!(
        group["shards"][0]["owner"], "one",
        "a lease outlives a crash"
    );
    let names = done(http, "GET /api/streams/log/groups", "")?;
    assert_eq!(names["names"], json!(["w"]));
    done(http, "DELETE /api/streams/log/groups/w", "")?;
    done(http, "DELETE /api/streams/log", "")?;
    let (status, _) = ask(http, "GET /api/streams/log", GUEST, "")?;
    assert_eq!(status, 404);
    server.stop();
    Ok(())
}

#[test]
fn who_does_not_log_in_is_told_nothing() -> anyhow::Result<()> {
    let server = Server::start();
    let http = server.door("http");
    for login in ["", "Basic bm86bm8=", "Bearer x"] {
        let (status, body) = ask(http, "GET /api/streams", login, "")?;
        assert_eq!((status, &body["error"]), (401, &json!("not_authorised")));
    }
    server.stop();
    Ok(())
}
