//! Plain HTTP, and the upgrade to WebSocket.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
};

use anyhow::Context as _;
use tokio_tungstenite::tungstenite::{
    self, WebSocket,
    client::{IntoClientRequest as _, client_with_config},
    handshake::HandshakeError,
    http::Response,
};

use super::dial;

/// GET: the status and the body.
pub(crate) fn get(address: SocketAddr, path: &str) -> anyhow::Result<(u16, String)> {
    let mut stream = dial(address);
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .context("an HTTP answer has a head")?;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|text| text.parse().ok())
        .context("an HTTP answer has a status")?;
    Ok((status, body.to_owned()))
}

/// A WebSocket, and the subprotocol that was chosen.
pub(crate) type Upgraded = (Box<WebSocket<TcpStream>>, Option<String>);

/// Asks for a WebSocket. The inner error is the status of a refusal.
pub(crate) fn upgrade(
    address: SocketAddr,
    path: &str,
    headers: &[(&'static str, &str)],
) -> anyhow::Result<Result<Upgraded, u16>> {
    let mut request = format!("ws://{address}{path}").into_client_request()?;
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse()?);
    }
    match client_with_config(request, dial(address), None) {
        Ok((socket, answer)) => Ok(Ok((Box::new(socket), subprotocol(&answer)))),
        Err(HandshakeError::Failure(tungstenite::Error::Http(answer))) => {
            Ok(Err(answer.status().as_u16()))
        }
        Err(error) => Err(anyhow::anyhow!("the handshake failed: {error}")),
    }
}

fn subprotocol<T>(answer: &Response<T>) -> Option<String> {
    let chosen = answer.headers().get("sec-websocket-protocol")?;
    chosen.to_str().ok().map(str::to_owned)
}
