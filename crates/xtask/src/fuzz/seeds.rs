//! What a target begins with: the golden frames of the protocols, in the target's own notation (crates/fuzz/src).
//!
//! Made anew at each run, so that a new golden line is a new seed. A target without frames has a few texts here, or nothing.

use anyhow::Context;

/// Deeds of a session target: the core answers everything well; it delivers; time passes.
const ANSWER_ALL: [u8; 2] = [7, 3];
const DELIVER: [u8; 3] = [8, 0, 2];

pub(super) fn seeds(target: &str) -> anyhow::Result<Vec<Vec<u8>>> {
    let golden = |path: &str| {
        std::fs::read_to_string(path).with_context(|| format!("failed to read {path}"))
    };
    let mqtt = || golden("protocols/mqtt/tests/frames/packets.txt").map(|text| mqtt_lines(&text));
    let amqp = || golden("protocols/amqp091/tests/frames/frames.txt").map(|text| amqp_lines(&text));
    let stomp = || golden("protocols/stomp/tests/frames/wire.txt").map(|text| stomp_lines(&text));
    // A version, then: whole at once, not split.
    let decoder = |(version, bytes): (u8, Vec<u8>)| [&[version, 0xff][..], &bytes].concat();
    let session = |(version, bytes): (u8, Vec<u8>)| {
        let mut script = vec![version];
        for part in bytes.chunks(255) {
            script.extend_from_slice(&[0, part.len() as u8]);
            script.extend_from_slice(part);
        }
        script.extend_from_slice(&ANSWER_ALL);
        script.extend_from_slice(&DELIVER);
        script
    };
    let texts = |all: &[&[u8]]| all.iter().map(|text| text.to_vec()).collect();
    Ok(match target {
        "mqtt" => mqtt()?.into_iter().map(decoder).collect(),
        "mqtt-session" => mqtt()?
            .into_iter()
            .map(|(version, bytes)| session((u8::from(version < 2), bytes)))
            .collect(),
        "amqp" => amqp()?.into_iter().map(|bytes| decoder((0, bytes))).collect(),
        "amqp-properties" => amqp()?
            .into_iter()
            // Behind a frame's head, class, weight and size; before its end.
            .filter(|frame| frame.first() == Some(&2) && frame.len() > 20)
            .map(|frame| frame[19..frame.len() - 1].to_vec())
            .collect(),
        "amqp-session" => amqp()?
            .into_iter()
            .map(|bytes| session((0, bytes)).split_off(1))
            .collect(),
        "stomp" => stomp()?.into_iter().map(decoder).collect(),
        "stomp-session" => stomp()?.into_iter().map(session).collect(),
        "websocket" => texts(&[
            b"\x00\xff\x82\x83\0\0\0\0abc",
            b"\x01\xff\x81\x83\x01\x02\x03\x04```",
            b"\x02\x00\x01\x81\0\0\0\0a\x80\x81\0\0\0\0b",
            b"\x00\xff\x89\x80\0\0\0\0\x8a\x80\0\0\0\0",
            b"\x00\xff\x88\x82\0\0\0\0\x03\xe8",
            b"\x00\xff\x82\xfe\x01\x00\0\0\0\0",
            b"\x00\xff\x82\xff\0\0\0\0\0\x02\0\0\0\0\0\0",
        ]),
        "names" => texts(&[b"\x10a/b", b"\x10+/#", b"\x10$queue/a%2Fb", b"\x10$share/g/a/#", b"\x10$SYS/x"]),
        "config" => texts(&[
            b"vhosts = [\"/\", \"a\"]\nguest = false\n",
            b"[[users]]\nname = \"a\"\npassword_hash = \"$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"\nvhosts = [\"/\"]\n",
            b"[anonymous]\nprotocols = [\"mqtt\"]\nloopback_only = false\nuser = \"x\"\n",
        ]),
        "journal" => texts(&[
            b"\x00\x05\x00\x00\x00\x01\xff",
            b"\x02\x08\x00\x90\x00",
            b"\x03\x03\x00\x00\x00\x00\x06\x10\x00\x00\x00\x01",
            b"\x04\x06\x00\x10\x00\x07\x00\x20\x00",
        ]),
        "aws-json" => texts(&[
            br#"{"Text":"a\u00fc","Blob":"AAE=","Int":-1,"Float":1.5e3,"Bool":true,"Time":1577934245.006}"#,
            br#"{"List":[{"Int":1},null],"Map":{"k":{"Text":""}},"Below":{"Below":{}},"Flat":["a"],"x":[1,{"y":null}]}"#,
        ]),
        "aws-cbor" => texts(&[
            b"\xa4\x64Text\x61a\x64Blob\x42\0\xff\x63Int\x20\x64Time\xc1\x1b\0\0\x01\x6f\x64\0\0\0",
            b"\xbf\x61x\x9f\xa1\x61a\xf6\xf9\x3e\x00\xff\x64Text\x7f\x61a\x61b\xff\x64Time\xc1\xf9\x3e\x00\xff",
            b"\xa2\x64List\x81\xa0\x63Map\xa1\x61k\xa1\x65Below\xa1\x65Float\xf9\x3c\x00",
        ]),
        "aws-query" => texts(&[
            b"Action=X&Text=a%20b+c&Blob=AAE%3D&Int=5&Float=1.5&Bool=true&Time=2020-01-02T03:04:05Z",
            b"List.member.1.Text=a&List.member.2.Int=1&Map.entry.1.key=k&Map.entry.1.value.Text=v&Below.Below.Int=1",
            b"Element.1=a&Element.2=b&Entry.1.Name=n&Entry.1.Value=v&Flat=",
        ]),
        "aws-signature" => texts(&[
            b"/?Action=ListQueues&Version=2012-11-05\nhost:broker\nx-amz-date:20200102T030405Z\nauthorization:AWS4-HMAC-SHA256 Credential=ID1/20200102/us-east-1/sqs/aws4_request, SignedHeaders=host;x-amz-date, Signature=00\n\nbody",
            b"/?Action=Publish&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=ID1%2F20200102%2Fus-east-1%2Fsns%2Faws4_request&X-Amz-Date=20200102T030405Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature=00\nhost:broker\n\n",
            b"/a/../b?x=%41&y\nhost:broker\ndate:Thu, 02 Jan 2020 03:04:05 GMT\nx-amz-target:Kinesis_20131202.PutRecord\ncontent-type:application/x-amz-cbor-1.1\nauthorization:AWS4-HMAC-SHA256 Credential=ID1/20200102/us-east-1/kinesis/aws4_request, SignedHeaders=date;host, Signature=00\n\n\xa0",
        ]),
        "aws-events" => texts(&[b"{}\0:message-type\0event\0:event-type\0initial-response"]),
        "policy" => texts(&[
            b"{\"a\":[\"x\",1,true,null,{\"prefix\":\"p\"},{\"anything-but\":[\"y\"]}],\"b\":{\"c\":[{\"exists\":false}]}}\0{\"a\":\"px\",\"b\":{}}",
            b"{\"$or\":[{\"n\":[{\"numeric\":[\">\",0,\"<=\",5.5]}]},{\"ip\":[{\"cidr\":\"10.0.0.0/8\"}]}]}\0{\"n\":3,\"ip\":\"10.1.2.3\"}",
            b"{\"w\":[{\"wildcard\":\"a*b*\"},{\"suffix\":\"z\"},{\"equals-ignore-case\":\"Q\"}]}\0{\"w\":[\"axby\",\"q\"]}",
        ]),
        // CreateQueue, CreateTopic and CreateStream with a name alone, half a minute, then each operation of each service with
        // all members.
        "aws-requests" => (0..240)
            .map(|which| {
                let named = |which: u8| vec![which, 0, 1, 0];
                let all = [&[which, 0, 0xff][..], &[0; 40]].concat();
                [named(12), named(19), named(5), vec![240, 6], all].concat()
            })
            .collect(),
        _ => Vec::new(),
    })
}

/// `v5 = 30 05 ... | what it is`
fn mqtt_lines(text: &str) -> Vec<(u8, Vec<u8>)> {
    let one = |line: &str| {
        let (version, rest) = line.split_once(' ')?;
        let version = ["v31", "v311", "v5"]
            .iter()
            .position(|name| *name == version)?;
        let bytes = hex(rest.get(1..)?.split('|').next()?)?;
        Some((version as u8, bytes))
    };
    text.lines().filter_map(one).collect()
}

/// `08 0000 00000000 ce = what it is`
fn amqp_lines(text: &str) -> Vec<Vec<u8>> {
    let one = |line: &str| hex(line.split(['=', '!']).next()?);
    text.lines()
        .filter_map(one)
        .filter(|bytes| !bytes.is_empty())
        .collect()
}

/// `1.2 SEND\n\nhello\0 => what it is`
fn stomp_lines(text: &str) -> Vec<(u8, Vec<u8>)> {
    let one = |line: &str| {
        let (version, rest) = line.split_once(' ')?;
        let version = ["1.0", "1.1", "1.2"]
            .iter()
            .position(|name| *name == version)?;
        Some((version as u8, unescape(rest.split(" =>").next()?)))
    };
    text.lines().filter_map(one).collect()
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> = text
        .chars()
        .filter(|char| !char.is_whitespace())
        .map(|char| char.to_digit(16))
        .collect::<Option<_>>()?;
    Some(
        digits
            .chunks_exact(2)
            .map(|pair| (pair[0] << 4 | pair[1]) as u8)
            .collect(),
    )
}

fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'\\' => match bytes.next() {
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                Some(b'0') => 0,
                other => other.unwrap_or(b'\\'),
            },
            other => other,
        });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_lines_become_seeds() {
        assert_eq!(
            mqtt_lines("# note\nv5 ! 30 ff | 81 too long\nv311 ? 10 fd 07 |"),
            [(2, vec![0x30, 0xff]), (1, vec![0x10, 0xfd, 7])]
        );
        assert_eq!(
            amqp_lines("# 4.2.3 format\n08 0000 00000000 ce = Heartbeat"),
            [vec![8, 0, 0, 0, 0, 0, 0, 0xce]]
        );
        assert_eq!(
            stomp_lines("1.1 SEND\\na\\\\cb\\n\\n\\0 => SEND"),
            [(1, b"SEND\na\\cb\n\n\0".to_vec())]
        );
    }

    #[test]
    fn each_protocol_has_many_seeds() {
        std::env::set_current_dir(crate::root()).expect("it is there");
        for name in [
            "mqtt",
            "amqp",
            "stomp",
            "mqtt-session",
            "amqp-session",
            "stomp-session",
        ] {
            assert!(seeds(name).expect(name).len() > 20, "{name}");
        }
        assert!(!seeds("amqp-properties").expect("read").is_empty());
    }
}
