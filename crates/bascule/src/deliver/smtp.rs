//! The SMTP client (RFC 5321): one mail over one connection to the operator's server, in plain text, with STARTTLS (RFC 3207) or in TLS
//! from the start, logged in with AUTH PLAIN (RFC 4954) if there is a user.

use std::io;

use message::base64;
use sns::Mail;
use tokio::{
    io::{
        AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _,
        BufReader,
    },
    net::TcpStream,
};

use super::client::{Client, Sent};
use crate::config::{Email, MailSecurity, Sns};

/// The longest line of a reply, in bytes.
const LINE_LEN_MAX: u64 = 4096;
/// Lines of one reply.
const LINES_MAX: usize = 100;

/// Where mail goes.
pub(super) struct Smtp {
    server: Email,
    user: String,
    password: String,
}

/// What the server did not take.
enum Fault {
    /// For the time being, and why.
    Later(String),
    /// For good, and why.
    Never(String),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Later(format!("the mail server: {error}"))
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}
type Wire = BufReader<Box<dyn Stream>>;

impl Smtp {
    pub(super) fn new(settings: &Sns) -> Self {
        Self {
            server: settings.email.clone(),
            user: settings.email_user.clone(),
            password: settings.email_password.clone(),
        }
    }

    pub(super) async fn send(&self, mail: &Mail, client: &Client) -> Sent {
        let (host, port, security) = match &self.server {
            Email::Off => return Sent::never("sns.email is off"),
            Email::Discard => return Sent::taken(),
            Email::Server {
                host,
                port,
                security,
            } => (host, *port, *security),
        };
        match self.deliver(mail, client, host, port, security).await {
            Ok(()) => Sent::taken(),
            Err(Fault::Later(why)) => Sent::no_answer(why),
            Err(Fault::Never(why)) => Sent::never(why),
        }
    }

    async fn deliver(
        &self,
        mail: &Mail,
        client: &Client,
        host: &str,
        port: u16,
        security: MailSecurity,
    ) -> Result<(), Fault> {
        let tls = async |socket| {
            let stream = client.connect_tls(host, socket).await;
            stream.map_err(|error| {
                tracing::warn!(host, %error, "no TLS with the mail server");
                Fault::Later("no TLS with the mail server".to_owned())
            })
        };
        let socket = TcpStream::connect((host, port)).await?;
        let mut wire: Wire = match security {
            MailSecurity::Tls => BufReader::new(Box::new(tls(socket).await?)),
            MailSecurity::StartTls => {
                let mut plain = BufReader::new(socket);
                expect(&mut plain, 220).await?;
                say(&mut plain, "EHLO bascule", 250).await?;
                say(&mut plain, "STARTTLS", 220).await?;
                // What came unasked before TLS is not trusted.
                if !plain.buffer().is_empty() {
                    let why = "the mail server said something in front of TLS";
                    return Err(Fault::Later(why.to_owned()));
                }
                BufReader::new(Box::new(tls(plain.into_inner()).await?))
            }
            MailSecurity::None => BufReader::new(Box::new(socket)),
        };
        if security != MailSecurity::StartTls {
            expect(&mut wire, 220).await?;
        }
        say(&mut wire, "EHLO bascule", 250).await?;
        if !self.user.is_empty() {
            let login = format!("\0{}\0{}", self.user, self.password);
            let auth = format!("AUTH PLAIN {}", base64::encode(login.as_bytes()));
            // A wrong password is the operator's to mend, not the receiver's fault.
            say(&mut wire, &auth, 235).await.map_err(|_| {
                tracing::warn!(
                    host,
                    "the mail server does not accept sns.email_user and its password"
                );
                Fault::Later("the mail server does not let us in".to_owned())
            })?;
        }
        let sender = mail.sender();
        say(&mut wire, &format!("MAIL FROM:<{sender}>"), 250).await?;
        say(&mut wire, &format!("RCPT TO:<{}>", mail.to), 250).await?;
        say(&mut wire, "DATA", 354).await?;
        wire.write_all(mail.to_wire().as_bytes()).await?;
        say(&mut wire, ".", 250).await?;
        // It has it: what becomes of the goodbye does not matter.
        let _ = wire.write_all(b"QUIT\r\n").await;
        Ok(())
    }
}

async fn say<S>(wire: &mut BufReader<S>, line: &str, wanted: u16) -> Result<(), Fault>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    wire.write_all(format!("{line}\r\n").as_bytes()).await?;
    wire.flush().await?;
    expect(wire, wanted).await
}

/// Reads a reply, which may have several lines.
async fn expect<S>(wire: &mut BufReader<S>, wanted: u16) -> Result<(), Fault>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    for _ in 0..LINES_MAX {
        let mut line = String::new();
        let read = (&mut *wire).take(LINE_LEN_MAX).read_line(&mut line).await?;
        if read == 0 {
            return Err(Fault::Later("the mail server hung up".to_owned()));
        }
        let code = line.get(..3).and_then(|code| code.parse::<u16>().ok());
        let code = code.ok_or_else(no_smtp)?;
        if line.as_bytes().get(3) == Some(&b'-') {
            continue;
        }
        // 251: the receiver is elsewhere and the server sees to it.
        if code == wanted || (wanted == 250 && code == 251) {
            return Ok(());
        }
        let why = format!("the mail server refuses it: {}", line.trim_end());
        return Err(if (500..600).contains(&code) {
            Fault::Never(why)
        } else {
            Fault::Later(why)
        });
    }
    Err(no_smtp())
}

fn no_smtp() -> Fault {
    Fault::Later("the mail server does not speak SMTP".to_owned())
}
