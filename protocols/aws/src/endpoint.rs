//! The endpoint: requests of all services, from head and body to a flow of answers.
//!
//! ```text
//! head ─► which form and service ─► who signed, and when ─► body ─► is the signature right ─► which operation
//!      ─► input as its shape says ─► constraints ─► account and region: virtual host ─► login ─► its policy ─► the operation's flow ─► answer
//! ```
//! `health.rs` answers a question of LocalStack's users in front of all that.
//!
//! What can be refused by the head alone is refused before the body is read: no signature where there must be one, a key that nobody
//! has, a time that is over. Each refusal is in the words of the form and the service that were asked for.

mod answer;
mod elsewhere;
mod health;
mod page;
mod route;

use std::{
    borrow::Cow,
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use http::{Method, Response, header, request::Parts};
use message::Timestamp;
use session::{
    Asked, Authenticate, Begun, Credentials, Exchange, Flow, Kept, LoggedIn, Login, Peer, Refusal,
    RefusalKind, Reply, Request, Token, Unserved,
};

use self::{answer::Form, route::Route};
use crate::{
    Answer, ApiError, Call, Input, Manners, Operation, Service, Settings, Shape, Value,
    codec::{Malformed, cbor, json, query},
    digest,
    guard::{Judge, Origin},
    places::Placed,
    policy::{Known, Unreadable},
    signature::{Fault, Key, Keys, Signature},
    validate::validate,
};

/// The longest body of a request without a signature, in bytes: a form that confirms or ends a subscription, with room to spare.
/// A stranger must not fill with long bodies the memory that all requests share.
const UNSIGNED_BODY_LEN_MAX: usize = 16 << 10;

/// A service, and how long its requests may be.
#[derive(Clone, Copy, Debug)]
pub struct Served {
    /// The service.
    pub service: &'static Service,
    /// Its name for people, in logs and metrics: `SQS`.
    pub label: &'static str,
    /// The longest body of a request, in bytes.
    pub body_len_max: usize,
}

/// What an endpoint is made of.
pub struct EndpointConfig {
    /// The services.
    pub services: Vec<Served>,
    /// The access keys.
    pub keys: Vec<Key>,
    /// With [`Settings::any_signature`]: the user that unknown keys are of.
    pub any_user: Arc<str>,
    /// What the operator chose.
    pub settings: Arc<Settings>,
    /// Chance of this process alone: request ids and [`Call::random`] come from it.
    pub seed: [u8; 32],
    /// What is kept with queues, streams and topics: their policies are there.
    pub kept: Arc<dyn Kept>,
    /// Is told of each policy there that cannot be read.
    pub unreadable: Unreadable,
    /// The version of the program.
    pub version: &'static str,
    /// Whether this node serves: another one of a pair does else.
    pub serves: Serves,
}

/// Says whether this node serves.
pub type Serves = Arc<dyn Fn() -> bool + Send + Sync>;

/// Requests that were answered: well, refused, and not served through no fault of theirs.
#[derive(Debug, Default)]
struct Counted {
    served: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
}

struct Inner {
    services: Vec<Served>,
    counted: Vec<Counted>,
    keys: RwLock<Arc<Keys>>,
    any_user: Arc<str>,
    settings: Arc<Settings>,
    seed: [u8; 32],
    /// What request ids are made of. They are shown, so it is apart from what chance is made of.
    ids: [u8; 16],
    count: AtomicU64,
    kept: Arc<dyn Kept>,
    policies: Arc<Known>,
    version: &'static str,
    serves: Serves,
    /// How the last request reached us: the next one mostly did so too.
    base_url: Mutex<Arc<str>>,
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Endpoint(Arc<Inner>);

impl Endpoint {
    /// Makes one.
    #[must_use]
    pub fn new(config: EndpointConfig) -> Self {
        let EndpointConfig {
            services,
            keys,
            any_user,
            settings,
            seed,
            kept,
            unreadable,
            version,
            serves,
        } = config;
        Self(Arc::new(Inner {
            counted: services.iter().map(|_| Counted::default()).collect(),
            services,
            keys: RwLock::new(Arc::new(Keys::new(keys))),
            any_user,
            settings,
            ids: digest::hmac_sha256(&seed, &[b"request ids"])[..16]
                .try_into()
                .expect("a part of 32 bytes"),
            seed,
            count: AtomicU64::new(0),
            kept,
            policies: Arc::new(Known::new(unreadable)),
            version,
            serves,
            base_url: Mutex::new("".into()),
        }))
    }

    /// Puts other access keys in the place of those that there were.
    pub fn replace_keys(&self, keys: Vec<Key>) {
        let keys = Arc::new(Keys::new(keys));
        *self.0.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
    }

    /// How many requests of each service were answered: its label, how, and the number.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        self.0
            .services
            .iter()
            .zip(&self.0.counted)
            .flat_map(move |(served, counted)| {
                [
                    (served.label, "served", load(&counted.served)),
                    (served.label, "refused", load(&counted.refused)),
                    (served.label, "failed", load(&counted.failed)),
                ]
            })
    }
}

impl Exchange for Endpoint {
    fn begin(&self, head: Parts, peer: &Peer, now: Timestamp) -> Result<Begun, Reply> {
        if let Some(reply) = self.0.page(&head) {
            return Err(reply);
        }
        if let Some(reply) = health::answer(&head, &self.0) {
            return Err(reply);
        }
        let chance = self.0.chance();
        if let Some(reply) = elsewhere::answer(&head, &self.0.services, &chance.request_id) {
            return Err(reply);
        }
        let form = Form::of(&head, &self.0.services);
        let route = match Route::of_head(&head, form, &self.0.services) {
            Ok(route) => route,
            Err(error) => return Err(self.0.refuse(form, None, &chance, &error)),
        };
        // Where keys are asked for, a page without one gets nowhere.
        if self.0.settings.any_signature && page::is_foreign(&head, peer.address.ip()) {
            let error = foreign_page();
            return Err(self.0.refuse(form, route.served, &chance, &error));
        }
        let keys = self.0.keys();
        let signature = match self.0.check_head(&head, &keys, now) {
            Ok(signature) => signature,
            Err(fault) => {
                let error = worded(fault, form);
                return Err(self.0.refuse(form, route.served, &chance, &error));
            }
        };
        let is_strange = self.0.is_strange(signature.as_ref());
        // What may come without a signature is links, and they are queries.
        if is_strange && route.form != Form::Query {
            let error = worded(Fault::Missing, form);
            return Err(self.0.refuse(form, route.served, &chance, &error));
        }
        let mut body_len_max = route.served.map_or_else(
            || {
                let all = self.0.services.iter().map(|served| served.body_len_max);
                all.min().unwrap_or_default()
            },
            |at| self.0.services[at].body_len_max,
        );
        if is_strange {
            body_len_max = body_len_max.min(UNSIGNED_BODY_LEN_MAX);
        }
        Ok(Begun {
            body_len_max,
            request: Box::new(Incoming {
                inner: Arc::clone(&self.0),
                head,
                route,
                keys,
                signature,
                chance,
                address: peer.address.ip(),
            }),
        })
    }
}

/// The request id, and chance for the operation.
#[derive(Clone)]
struct Chance {
    request_id: Arc<str>,
    random: [u8; 32],
}

impl Inner {
    fn keys(&self) -> Arc<Keys> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn chance(&self) -> Chance {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let mut seeded = [0; 40];
        seeded[..32].copy_from_slice(&self.seed);
        seeded[32..].copy_from_slice(&count.to_be_bytes());
        let id = digest::random_uuid(digest::spread(self.ids, count));
        Chance {
            request_id: Arc::from(&*digest::uuid_digits(&id)),
            random: digest::sha256(&seeded),
        }
    }

    /// `SCHEME://HOST`.
    fn base_url(&self, scheme: &str, host: &str) -> Arc<str> {
        let mut last = self.base_url.lock().unwrap_or_else(PoisonError::into_inner);
        let behind = last.strip_prefix(scheme);
        let behind = behind.and_then(|behind| behind.strip_prefix("://"));
        if behind != Some(host) {
            *last = [scheme, "://", host].concat().into();
        }
        Arc::clone(&last)
    }

    /// What anyone may get.
    fn page(&self, head: &Parts) -> Option<Reply> {
        if !matches!(head.method, Method::GET | Method::HEAD) || head.uri.query().is_some() {
            return None;
        }
        let pages = self.services.iter().flat_map(|it| it.service.pages);
        let page = pages
            .into_iter()
            .find(|page| page.path == head.uri.path())?;
        let response = Response::builder()
            .header(header::CONTENT_TYPE, page.content_type)
            .body((page.body)(&self.settings))
            .expect("content types are our own");
        Some(Reply::Head(Box::new(response)))
    }

    /// What of the signature can be checked without the body.
    fn check_head(
        &self,
        head: &Parts,
        keys: &Keys,
        now: Timestamp,
    ) -> Result<Option<Signature>, Fault> {
        let read = Signature::read(head);
        if self.settings.any_signature {
            // Whatever it says is believed, and what it does not say is not needed.
            return Ok(read.unwrap_or_default());
        }
        let Some(signature) = read? else {
            return Ok(None);
        };
        if keys.find(signature.key_id()).is_none() {
            return Err(Fault::UnknownKey);
        }
        signature.check_covers(&head.headers)?;
        signature.check_time(now)?;
        Ok(Some(signature))
    }

    /// Whether nobody is known to have sent a request with that signature.
    fn is_strange(&self, signature: Option<&Signature>) -> bool {
        signature.is_none() && !self.settings.any_signature
    }

    fn refuse(
        &self,
        form: Form,
        served: Option<usize>,
        chance: &Chance,
        error: &ApiError,
    ) -> Reply {
        if let Some(at) = served {
            let counted = &self.counted[at];
            let counter = if error.receiver {
                &counted.failed
            } else {
                &counted.refused
            };
            counter.fetch_add(1, Ordering::Relaxed);
        }
        let service = served.map(|at| self.services[at].service);
        answer::error(form, service, &chance.request_id, error)
    }
}

/// A request whose head has come.
struct Incoming {
    inner: Arc<Inner>,
    head: Parts,
    route: Route,
    /// Those of when it came.
    keys: Arc<Keys>,
    signature: Option<Signature>,
    chance: Chance,
    address: IpAddr,
}

impl Request for Incoming {
    fn take(mut self: Box<Self>, body: Bytes, now: Timestamp) -> Asked {
        match self.understand(&body, now) {
            Ok(login) => Asked::Login(login),
            Err(error) => Asked::Reply(self.refused(&error)),
        }
    }

    fn refuse(self: Box<Self>, why: Unserved) -> Reply {
        if matches!(why, Unserved::TooLong) && self.inner.is_strange(self.signature.as_ref()) {
            // With a signature it might have been served.
            return self.refused(&worded(Fault::Missing, self.route.form));
        }
        self.refused(&unserved(why))
    }
}

/// Whom a call is of.
struct Caller {
    credentials: Credentials,
    user: Arc<str>,
    access_key: Arc<str>,
    /// The caller's own.
    place: Placed,
    /// The one of what he asks about, if that is another account's.
    other: Option<Placed>,
}

impl Caller {
    /// It came without a signature, with a token of the service: nobody asks.
    fn is_broker(&self) -> bool {
        self.credentials == Credentials::Broker
    }
}

impl Incoming {
    fn refused(&self, error: &ApiError) -> Reply {
        self.inner
            .refuse(self.route.form, self.route.served, &self.chance, error)
    }

    fn understand(&mut self, body: &Bytes, now: Timestamp) -> Result<Box<Login>, ApiError> {
        let form = self.route.form;
        let mut parameters = query::Form::default();
        if form == Form::Query {
            let text = self.head.uri.query().unwrap_or_default().as_bytes();
            let read = if self.signature.is_some() {
                parameters.read_signed(text)
            } else {
                parameters.read(text)
            };
            read.and_then(|()| parameters.read(body))
                .map_err(|malformed| unread(malformed, form))?;
            self.route
                .complete(&parameters, self.signature.as_ref(), &self.inner.services)?;
        }
        let key = self.verify(body)?;
        let (at, operation) = self.route.operation(&self.inner.services)?;
        let served = self.inner.services[at];
        let value = match form {
            Form::Json => json::decode(body, operation.input),
            Form::Cbor => cbor::decode(body, operation.input),
            Form::Query => parameters.decode(operation.input),
        }
        .map_err(|malformed| unread(malformed, form))?;
        let mut caller = self.caller(key, operation, &value)?;
        caller.other = self.other(served.service, operation, &value, &caller);
        check(&value, served.service, operation)?;
        Ok(self.login((at, operation), value, caller, now))
    }

    /// Whether the signature is right. `None`: there is no key to it.
    fn verify(&self, body: &[u8]) -> Result<Option<&Key>, ApiError> {
        let form = self.route.form;
        let Some(signature) = &self.signature else {
            return Ok(None);
        };
        let key = self.keys.find(signature.key_id());
        if self.inner.settings.any_signature {
            return Ok(key);
        }
        let key = key.ok_or_else(|| worded(Fault::UnknownKey, form))?;
        if let Some(at) = self.route.served {
            let service = self.inner.services[at].service;
            if signature.service() != service.name {
                let words = format!(
                    "Credential should be scoped to correct service: '{}'.",
                    service.name
                );
                return Err(worded(Fault::Mismatch(words), form));
            }
        }
        self.keys
            .verify(key, signature, &self.head, body)
            .map_err(|fault| worded(fault, form))?;
        Ok(Some(key))
    }

    fn caller(
        &self,
        key: Option<&Key>,
        operation: &Operation,
        value: &Value,
    ) -> Result<Caller, ApiError> {
        let (inner, form) = (&self.inner, self.route.form);
        let places = &inner.settings.places;
        let nowhere = |account: &str, region: &str| {
            let words = format!(
                "no virtual host is configured for account {account} and region '{region}'"
            );
            worded(Fault::Mismatch(words), form)
        };
        let Some(signature) = &self.signature else {
            if let Some(place) = operation.unsigned {
                let first = places.first();
                let (account, region) = place(value)
                    .unwrap_or_else(|| (first.account.to_string(), first.region.to_string()));
                return Ok(Caller {
                    credentials: Credentials::Broker,
                    user: "".into(),
                    access_key: "".into(),
                    place: places
                        .find(&account, &region)
                        .ok_or_else(|| nowhere(&account, &region))?,
                    other: None,
                });
            }
            if !inner.settings.any_signature {
                return Err(worded(Fault::Missing, form));
            }
            return Ok(Caller {
                credentials: vouched(&inner.any_user),
                user: Arc::clone(&inner.any_user),
                access_key: "".into(),
                place: places.first().clone(),
                other: None,
            });
        };
        let region = signature.region();
        let (user, account, access_key) = match key {
            Some(key) => (&key.user, &*key.account, Arc::clone(&key.id)),
            None => {
                let id = signature.key_id();
                let account = if crate::places::is_account(id) {
                    id
                } else {
                    &*places.first().account
                };
                (&inner.any_user, account, id.into())
            }
        };
        let place = places.find(account, region);
        Ok(Caller {
            credentials: vouched(user),
            user: Arc::clone(user),
            access_key,
            place: place.ok_or_else(|| nowhere(account, region))?,
            other: None,
        })
    }

    /// Where the resource is that a request is about, if it is of another account than the caller.
    fn other(
        &self,
        service: &Service,
        operation: &Operation,
        value: &Value,
        caller: &Caller,
    ) -> Option<Placed> {
        let settings = &self.inner.settings;
        if settings.manners == Manners::Moto || caller.is_broker() {
            return None;
        }
        let owner = service.guard?.owner;
        let (account, region) = owner(operation, self.head.uri.path(), value)?;
        settings.places.across(&caller.place, account, region)
    }

    fn login(
        &self,
        (at, operation): (usize, &'static Operation),
        value: Value,
        caller: Caller,
        now: Timestamp,
    ) -> Box<Login> {
        let served = self.inner.services[at];
        let settings = Arc::clone(&self.inner.settings);
        let place = caller.other.as_ref().unwrap_or(&caller.place).clone();
        let (across, is_broker) = (caller.other.is_some(), caller.is_broker());
        let authenticate = Authenticate {
            token: Token(0),
            credentials: caller.credentials,
            vhost: Some(place.vhost.to_string()),
            vhost_fallback: false,
            vhost_in_user: false,
            vhost_follows: false,
            // Asking for what is another's makes nothing, nor does a link that anybody may have made up.
            vhost_create: settings.places.are_made() && !across && !is_broker,
            verified_anywhere: false,
            protocol: served.label,
            client: Bytes::new(),
        };
        let scheme = self.scheme();
        let judge = if is_broker {
            Judge::default()
        } else {
            let origin = Origin {
                address: self.address,
                secure: scheme == "https",
                agent: self.head.headers.get(header::USER_AGENT).cloned(),
            };
            Judge::new(origin, &self.inner.kept, &self.inner.policies)
        };
        let base_url = self.inner.base_url(scheme, self.host());
        let path = match self.head.uri.path() {
            "/" => Cow::Borrowed("/"),
            path => Cow::Owned(path.to_owned()),
        };
        let Chance { request_id, random } = self.chance.clone();
        let form = self.route.form;
        let (inner, chance) = (Arc::clone(&self.inner), self.chance.clone());
        let refuse = {
            let (inner, chance) = (Arc::clone(&inner), chance.clone());
            move |why| inner.refuse(form, Some(at), &chance, &unserved(why))
        };
        let then = move |logged_in: Result<LoggedIn, Refusal>, _: Timestamp| {
            let logged_in = match logged_in {
                Ok(logged_in) => logged_in,
                Err(refusal) => {
                    let error = not_logged_in(&refusal, form, across);
                    return Flow::Done(inner.refuse(form, Some(at), &chance, &error));
                }
            };
            let call = Call {
                account: place.account,
                region: place.region,
                caller_account: caller.place.account,
                vhost: logged_in.vhost,
                vhost_name: logged_in.vhost_name,
                vhost_of: |call, account, region| {
                    let place = call.settings.places.find(account, region);
                    place.map(|place| place.vhost)
                },
                user: caller.user,
                access_key: caller.access_key,
                base_url,
                path,
                request_id: Arc::clone(&request_id),
                now,
                random,
                secret: logged_in.secret,
                settings,
                judge,
            };
            let call = Arc::new(call);
            let input = Input { call, value };
            if let Some(guard) = served.service.guard
                && let Err(error) = guard.admit(served.service.name, operation, &input)
            {
                return Flow::Done(inner.refuse(form, Some(at), &chance, &error));
            }
            let flow = (operation.run)(input);
            let writer = answer::Writer::new(form, served.service, operation, request_id);
            written(flow, writer, Counting { inner, at })
        };
        Box::new(Login {
            authenticate,
            then: Box::new(then),
            refuse: Box::new(refuse),
        })
    }

    /// How the client reached us: a proxy that ends TLS says so. Who is no proxy is not asked.
    fn scheme(&self) -> &'static str {
        if self.inner.settings.proxies.is_empty() {
            return "http";
        }
        let mut proxies = self.inner.settings.proxies.iter();
        let address = self.address.to_canonical();
        let told = self.head.headers.get("x-forwarded-proto");
        match told {
            Some(told)
                if told.as_bytes().eq_ignore_ascii_case(b"https")
                    && proxies.any(|proxy| proxy.has(address)) =>
            {
                "https"
            }
            _ => "http",
        }
    }

    /// What the client calls us.
    fn host(&self) -> &str {
        let host = self.head.headers.get(header::HOST);
        let host = host.and_then(|host| host.to_str().ok());
        let authority = || self.head.uri.authority().map(http::uri::Authority::as_str);
        // It ends up in URLs: nothing but a host and a port.
        host.or_else(authority)
            .filter(|host| {
                (1..=255).contains(&host.len())
                    && host
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte))
            })
            .unwrap_or("localhost")
    }
}

fn vouched(user: &Arc<str>) -> Credentials {
    Credentials::Vouched {
        user: Arc::clone(user),
    }
}

/// Whether an input satisfies its shape.
fn check(value: &Value, service: &Service, operation: &Operation) -> Result<(), ApiError> {
    let Shape::Structure(members) = operation.input else {
        return Ok(());
    };
    let faults = validate(value, members);
    if let Some(member) = &faults.missing {
        let error = (service.missing)(operation, member);
        // Services that word it as a violation like any other tell all of them.
        if error.code != service.invalid_code {
            return Err(error);
        }
    }
    if faults.all.is_empty() {
        return Ok(());
    }
    Err((service.violations)(&faults.all))
}

/// Counts how a request of a service was answered.
struct Counting {
    inner: Arc<Inner>,
    at: usize,
}

impl Counting {
    fn count(&self, answer: &Answer) {
        let counted = &self.inner.counted[self.at];
        let counter = match answer {
            Answer::Error(error) if error.receiver => &counted.failed,
            Answer::Error(_) => &counted.refused,
            Answer::Output(_) | Answer::Event(..) | Answer::End => &counted.served,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// The flow with its answers as they are sent.
fn written(flow: Flow<Answer>, mut writer: answer::Writer, counting: Counting) -> Flow<Reply> {
    match flow {
        Flow::Done(answer) => {
            counting.count(&answer);
            Flow::Done(writer.last(answer))
        }
        Flow::Ask(commands, then) => Flow::Ask(
            commands,
            Box::new(move |events, now| written(then(events, now), writer, counting)),
        ),
        Flow::Until(at, then) => Flow::Until(
            at,
            Box::new(move |now| written(then(now), writer, counting)),
        ),
        Flow::Part(answer, then) => {
            let part = writer.part(answer);
            Flow::Part(
                part,
                Box::new(move |now| written(then(now), writer, counting)),
            )
        }
    }
}

/// An input that cannot be read.
fn unread(malformed: Malformed, form: Form) -> ApiError {
    match form {
        Form::Json | Form::Cbor => ApiError::sender("SerializationException", malformed.0),
        Form::Query => ApiError::sender("MalformedQueryString", malformed.0).with_status(404),
    }
}

/// What is wrong with a signature, in the words of the form. JSON and CBOR have status 400 for all of it.
fn worded(fault: Fault, form: Form) -> ApiError {
    let (json, query, words) = match fault {
        Fault::Missing => (
            "MissingAuthenticationTokenException",
            "MissingAuthenticationToken",
            match form {
                Form::Query => "Request is missing Authentication Token",
                Form::Json | Form::Cbor => "Missing Authentication Token",
            }
            .to_owned(),
        ),
        Fault::Incomplete(words) => ("IncompleteSignatureException", "IncompleteSignature", words),
        Fault::UnknownKey => (
            "UnrecognizedClientException",
            "InvalidClientTokenId",
            "The security token included in the request is invalid.".to_owned(),
        ),
        Fault::Mismatch(words) => ("InvalidSignatureException", "SignatureDoesNotMatch", words),
        Fault::Skewed(words) => ("InvalidSignatureException", "SignatureDoesNotMatch", words),
        Fault::Expired => (
            "RequestExpired",
            "RequestExpired",
            "Request has expired.".to_owned(),
        ),
    };
    let status = match (form, query) {
        (Form::Query, "IncompleteSignature" | "RequestExpired") | (Form::Json | Form::Cbor, _) => {
            400
        }
        (Form::Query, _) => 403,
    };
    ApiError::sender(json, words)
        .in_query(query)
        .with_status(status)
}

/// A request of a web page that has nothing to do with this server.
fn foreign_page() -> ApiError {
    ApiError::sender(
        "AccessDeniedException",
        "Web pages of other hosts are not let in while aws.signatures is \"accept\".",
    )
    .in_query("AccessDenied")
    .with_status(403)
}

/// A login that the core refused. `across`: it was one to another account than the caller's.
fn not_logged_in(refusal: &Refusal, form: Form, across: bool) -> ApiError {
    match refusal.kind {
        // Nothing has ever been there.
        RefusalKind::NotFound if across => ApiError::refused(&Refusal::new(
            RefusalKind::AccessDenied,
            refusal.detail.clone(),
        )),
        // Its user is gone.
        RefusalKind::BadCredentials => worded(Fault::UnknownKey, form),
        RefusalKind::NotFound => worded(Fault::Mismatch(refusal.detail.to_string()), form),
        _ => ApiError::refused(refusal),
    }
}

fn unserved(why: Unserved) -> ApiError {
    match why {
        Unserved::TooLong => ApiError::sender(
            "RequestEntityTooLargeException",
            "The request is longer than it may be.",
        )
        .in_query("RequestEntityTooLarge")
        .with_status(413),
        Unserved::TooSlow => ApiError::sender(
            "RequestTimeoutException",
            "The request did not come in time.",
        )
        .in_query("RequestTimeout")
        .with_status(408),
        Unserved::Busy => ApiError::unavailable("There are too many requests at a time."),
        Unserved::Stopping => ApiError::unavailable("The server is going down."),
        Unserved::Internal => ApiError::receiver(
            500,
            "InternalFailure",
            "The request failed for a defect of ours.",
        ),
    }
}

#[cfg(test)]
mod tests;
