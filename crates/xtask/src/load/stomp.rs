//! STOMP 1.2 by hand: SEND with receipts, SUBSCRIBE with ack:auto.

use std::{io::Write, sync::Arc};

use anyhow::{Context, bail};

use super::{Confirmed, Ledger, Socket, body};

fn header<'a>(head: &'a str, name: &str) -> anyhow::Result<&'a str> {
    head.lines()
        .filter_map(|line| line.split_once(':'))
        .find_map(|(key, value)| (key == name).then_some(value))
        .with_context(|| format!("expected {name} in {head}"))
}

/// One connection.
pub(crate) struct Stomp {
    socket: Socket,
}

impl Stomp {
    /// Connects on a socket of the caller's.
    pub(crate) fn over(socket: Socket) -> anyhow::Result<Self> {
        let mut this = Self { socket };
        this.socket
            .write(b"CONNECT\naccept-version:1.2\nhost:/\nlogin:guest\npasscode:guest\n\n\0\n")?;
        let (command, _) = this.frame()?;
        if command != "CONNECTED" {
            bail!("expected CONNECTED, got {command}");
        }
        Ok(this)
    }

    /// The next frame: command and body.
    fn frame(&mut self) -> anyhow::Result<(String, Vec<u8>)> {
        let (head, body) = self.whole_frame()?;
        let command = head.lines().next().context("a frame has a command")?;
        Ok((command.to_owned(), body))
    }

    /// The next frame: its lines before the empty one, and the body.
    fn whole_frame(&mut self) -> anyhow::Result<(String, Vec<u8>)> {
        self.socket.fill(1)?;
        while self.socket.unread().first() == Some(&b'\n') {
            self.socket.take(1);
            self.socket.fill(1)?;
        }
        let mut want = 1;
        let head_len = loop {
            self.socket.fill(want)?;
            if let Some(at) = self
                .socket
                .unread()
                .windows(2)
                .position(|pair| pair == b"\n\n")
            {
                break at;
            }
            want = self.socket.unread().len() + 1;
        };
        let head = String::from_utf8(self.socket.unread()[..head_len].to_vec())?;
        let len = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length:"))
            .map(str::parse::<usize>)
            .transpose()?;
        let len = match len {
            Some(len) => len,
            None => {
                let mut want = head_len + 3;
                loop {
                    self.socket.fill(want)?;
                    if let Some(at) = self.socket.unread()[head_len + 2..]
                        .iter()
                        .position(|byte| *byte == 0)
                    {
                        break at;
                    }
                    want = self.socket.unread().len() + 1;
                }
            }
        };
        self.socket.fill(head_len + 2 + len + 1)?;
        let body = self.socket.unread()[head_len + 2..head_len + 2 + len].to_vec();
        self.socket.take(head_len + 2 + len + 1);
        if head.starts_with("ERROR") {
            bail!("{head} {}", String::from_utf8_lossy(&body));
        }
        Ok((head, body))
    }

    /// Sends one persistent message with a receipt.
    pub(crate) fn send(
        &mut self,
        destination: &str,
        receipt: u64,
        body: &str,
    ) -> anyhow::Result<()> {
        let frame = format!(
            "SEND\ndestination:{destination}\npersistent:true\nreceipt:{receipt}\ncontent-length:{}\n\n{body}\0",
            body.len()
        );
        self.socket.write(frame.as_bytes())
    }

    /// The next receipt.
    pub(crate) fn acked(&mut self) -> anyhow::Result<u64> {
        let (head, _) = self.whole_frame()?;
        Ok(header(&head, "receipt-id")?.parse()?)
    }

    /// Asks for the messages of a destination, to be acknowledged one by one.
    pub(crate) fn subscribe(&mut self, destination: &str) -> anyhow::Result<()> {
        let frame =
            format!("SUBSCRIBE\nid:1\ndestination:{destination}\nack:client-individual\n\n\0");
        self.socket.write(frame.as_bytes())
    }

    /// The next message: what its ACK names, whether it is redelivered, and its body.
    pub(crate) fn message(&mut self) -> anyhow::Result<(String, bool, Vec<u8>)> {
        let (head, body) = self.whole_frame()?;
        let redelivered = header(&head, "redelivered").is_ok_and(|value| value == "true");
        Ok((header(&head, "ack")?.to_owned(), redelivered, body))
    }

    /// Acknowledges it.
    pub(crate) fn ack(&mut self, id: &str) -> anyhow::Result<()> {
        self.socket.write(format!("ACK\nid:{id}\n\n\0").as_bytes())
    }

    /// Sends `count` persistent messages with receipts, at most `window` unconfirmed.
    pub(crate) fn publish(
        mut self,
        destination: &str,
        count: u64,
        len: usize,
        window: u64,
        confirmed: &Arc<Confirmed>,
    ) -> anyhow::Result<()> {
        let mut writer = self.socket.writer()?;
        let acks = Arc::clone(confirmed);
        let reader = std::thread::Builder::new().spawn(move || {
            let result = self.count_receipts(count, &acks);
            acks.end(result.as_ref().err());
            result
        })?;
        let (mut sent, mut out, mut text) = (0u64, Vec::new(), Vec::new());
        while sent < count {
            let done = confirmed.wait((sent + 1).saturating_sub(window))?;
            let now = (count - sent).min(done + window - sent).min(256);
            out.clear();
            for _ in 0..now {
                text.clear();
                body(0, sent, len, &mut text);
                write!(
                    out,
                    "SEND\ndestination:{destination}\npersistent:true\nreceipt:{sent}\ncontent-length:{}\n\n",
                    text.len()
                )?;
                out.extend_from_slice(&text);
                out.push(0);
                sent += 1;
            }
            writer.write_all(&out)?;
        }
        confirmed.wait(count)?;
        reader.join().expect("the reader does not panic")
    }

    fn count_receipts(&mut self, count: u64, confirmed: &Confirmed) -> anyhow::Result<()> {
        let mut done = 0;
        while done < count {
            loop {
                let (command, body) = self.frame()?;
                if command != "RECEIPT" {
                    let said = String::from_utf8_lossy(&body);
                    bail!("expected RECEIPT, got {command}: {said}");
                }
                done += 1;
                if self.socket.unread().len() < 24 {
                    break;
                }
            }
            confirmed.set(done);
        }
        Ok(())
    }

    /// Receives `count` messages with ack:auto.
    pub(crate) fn receive(
        mut self,
        destination: &str,
        count: u64,
        ledger: &mut Ledger,
        mut ready: impl FnMut(),
    ) -> anyhow::Result<()> {
        self.socket.write(
            format!(
                "SUBSCRIBE\nid:1\ndestination:{destination}\nack:auto\nreceipt:subscribed\n\n\0"
            )
            .as_bytes(),
        )?;
        self.frame()?;
        ready();
        while ledger.received < count {
            let (command, body) = self
                .frame()
                .with_context(|| format!("{} of {count} messages came", ledger.received))?;
            if command == "MESSAGE" {
                ledger.see(&body);
            }
        }
        self.leave()
    }

    /// Ends in order. A server may notice a closed socket later than what comes on another one: until then messages would
    /// still go to a consumer that has left.
    fn leave(&mut self) -> anyhow::Result<()> {
        self.socket.write(b"DISCONNECT\nreceipt:left\n\n\0")?;
        self.frame()?;
        Ok(())
    }
}
