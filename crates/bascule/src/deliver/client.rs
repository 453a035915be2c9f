//! The HTTP client: one request over one connection, to an address that the operator's rules allow. Redirects are not followed.

use std::{
    borrow::Cow,
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
};

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request,
    client::conn::http1,
    header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, HeaderValue},
};
use hyper_util::rt::TokioIo;
use sns::{
    deliver::Outcome,
    egress::{Egress, Target},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    },
};

use crate::config::Sns;

/// What became of an attempt, and why, for people.
pub(super) struct Sent {
    pub(super) outcome: Outcome,
    pub(super) why: Cow<'static, str>,
}

impl Sent {
    pub(super) fn no_answer(why: impl Into<Cow<'static, str>>) -> Self {
        Self {
            outcome: Outcome::NoAnswer,
            why: why.into(),
        }
    }

    pub(super) fn never(why: impl Into<Cow<'static, str>>) -> Self {
        Self {
            outcome: Outcome::Never,
            why: why.into(),
        }
    }

    pub(super) fn taken() -> Self {
        Self {
            outcome: Outcome::Taken,
            why: "it was taken".into(),
        }
    }
}

/// Sends requests.
pub(super) struct Client {
    egress: Egress,
    tls: TlsConnector,
}

impl Client {
    pub(super) fn new(settings: &Sns) -> anyhow::Result<Self> {
        let egress = Egress::read(settings.endpoints.iter().map(String::as_str))
            .map_err(|rule| anyhow!("sns.endpoints: {rule:?} is no rule"))?;
        let mut roots = RootCertStore::empty();
        let system = rustls_native_certs::load_native_certs();
        for error in &system.errors {
            tracing::debug!(%error, "failed to read certificates of the system");
        }
        roots.add_parsable_certificates(system.certs);
        if !settings.ca_file.as_os_str().is_empty() {
            for certificate in read(&settings.ca_file)? {
                roots
                    .add(certificate)
                    .with_context(|| format!("sns.ca_file: {}", settings.ca_file.display()))?;
            }
        }
        if roots.is_empty() {
            tracing::info!(
                "the system has no certificates: no https endpoint of SNS can be reached"
            );
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .context("failed to set up TLS")?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            egress,
            tls: TlsConnector::from(Arc::new(config)),
        })
    }

    /// To an endpoint that a subscriber has named.
    pub(super) async fn endpoint(
        &self,
        url: &str,
        headers: &[(&'static str, String)],
        body: &Bytes,
    ) -> Sent {
        let Some(target) = Target::read(url) else {
            return Sent::never("it is no URL");
        };
        if !self.egress.may_allow(&target) {
            return Sent::never("sns.endpoints does not allow it");
        }
        let allowed = |address| self.egress.allows(&target, address);
        self.post(&target, allowed, headers, body.clone()).await
    }

    /// To a gateway that the operator has named.
    pub(super) async fn gateway(&self, url: &str, authorization: &str, json: &str) -> Sent {
        let Some(target) = Target::read(url) else {
            return Sent::never("it is no URL");
        };
        let mut headers = vec![(CONTENT_TYPE.as_str(), "application/json".to_owned())];
        if !authorization.is_empty() {
            headers.push((AUTHORIZATION.as_str(), authorization.to_owned()));
        }
        let body = Bytes::copy_from_slice(json.as_bytes());
        self.post(&target, |_| true, &headers, body).await
    }

    async fn post(
        &self,
        target: &Target,
        allowed: impl Fn(IpAddr) -> bool,
        headers: &[(&str, String)],
        body: Bytes,
    ) -> Sent {
        let addresses: Vec<SocketAddr> =
            match lookup_host((target.host.as_str(), target.port)).await {
                Ok(addresses) => addresses.collect(),
                Err(error) => return Sent::no_answer(format!("its name has no address: {error}")),
            };
        let good: Vec<SocketAddr> = addresses
            .iter()
            .copied()
            .filter(|address| allowed(address.ip()))
            .collect();
        if let (true, Some(address)) = (good.is_empty(), addresses.first()) {
            let words = format!(
                "sns.endpoints does not allow its address {}, which is not of the public internet",
                address.ip()
            );
            return Sent::never(words);
        }
        let Some(request) = request(target, headers, body) else {
            return Sent::never("no request can be made for it");
        };
        let sent = async {
            // To the addresses that were looked at: a second look-up might find others.
            let socket = TcpStream::connect(&*good).await?;
            socket.set_nodelay(true)?;
            if target.is_tls {
                let stream = self.connect_tls(&target.host, socket).await?;
                exchange(stream, request).await
            } else {
                exchange(socket, request).await
            }
        };
        match sent.await {
            Ok(status) => Sent {
                outcome: Outcome::Status(status),
                why: format!("it answers {status}").into(),
            },
            Err(error) => Sent::no_answer(format!("{error:#}")),
        }
    }

    /// TLS over a socket to a host.
    pub(super) async fn connect_tls(
        &self,
        host: &str,
        socket: TcpStream,
    ) -> anyhow::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.to_owned())?;
        Ok(self.tls.connect(name, socket).await?)
    }
}

fn read(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let failed = || format!("failed to read sns.ca_file {}", path.display());
    let found = CertificateDer::pem_file_iter(path).with_context(failed)?;
    found.collect::<Result<_, _>>().with_context(failed)
}

fn request(
    target: &Target,
    headers: &[(&str, String)],
    body: Bytes,
) -> Option<Request<Full<Bytes>>> {
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = target.path.parse().ok()?;
    let map = request.headers_mut();
    map.insert(HOST, HeaderValue::try_from(target.host_header()).ok()?);
    for (name, value) in headers {
        map.insert(
            HeaderName::from_bytes(name.as_bytes()).ok()?,
            HeaderValue::try_from(value.as_str()).ok()?,
        );
    }
    Some(request)
}

/// One request and the status of its response. What the body of that says does not matter, and is not read.
async fn exchange<S>(socket: S, request: Request<Full<Bytes>>) -> anyhow::Result<u16>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(64 * 1024)
        .handshake(TokioIo::new(socket))
        .await?;
    let exchanged = async {
        let response = sender.send_request(request).await?;
        anyhow::Ok(response.status().as_u16())
    };
    tokio::pin!(connection);
    tokio::pin!(exchanged);
    loop {
        tokio::select! {
            biased;
            status = &mut exchanged => return status,
            ended = &mut connection => ended?,
        }
    }
}
