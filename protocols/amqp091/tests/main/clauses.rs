//! Statements of AMQP 0-9-1 that no dialogue shows, because dialogues leave these fields out.

use amqp091::{
    AmqpSession, Config,
    codec::{Frame, Method, PROTOCOL_HEADER, decode},
};
use bytes::{Buf, BytesMut};
use message::{Timestamp, Value};
use session::{Output, Session};

/// [AMQP-connection.start.server-properties.required-fields], [AMQP-connection.start.locales.required-support]
/// [AMQP-connection.start.server-properties.required-fields], [AMQP-connection.start.locales.required-support]
#[test]
fn start_says_who_we_are_and_offers_en_us() {
    let mut session = AmqpSession::new(Config::default());
    let mut out = Output::default();
    let mut header = BytesMut::from(&PROTOCOL_HEADER[..]);
    let step = session.handle_bytes(&mut header, Timestamp(1), &mut out);
    assert!(step.is_ok());
    let len = out.wire.remaining();
    let mut wire = BytesMut::from(&out.wire.copy_to_bytes(len)[..]);
    let frame = decode(&mut wire, 4096);
    let Ok(Some(Frame::Method {
        channel: 0,
        method: Method::ConnectionStart(start),
    })) = frame
    else {
        panic!("{frame:?}");
    };
    for name in ["product", "version", "platform"] {
        let text = start.server_properties.first(name.as_bytes());
        assert!(
            matches!(text, Some(Value::Text(text)) if !text.is_empty()),
            "{name}: {text:?}"
        );
    }
    let locales = String::from_utf8_lossy(&start.locales.0).into_owned();
    assert!(locales.split(' ').any(|locale| locale == "en_US"));
}
