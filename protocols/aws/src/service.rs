//! A service as a table of operations, a call of one of them, and its answer.

use std::{borrow::Cow, sync::Arc};

use message::{Timestamp, VhostId};
use session::{Flow, Secret};

use crate::{ApiError, Guard, Judge, Settings, Shape, Value};

/// A service.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    /// Its name in the scope of signatures: `sqs`, `sns`, `kinesis`.
    pub name: &'static str,
    /// What stands before the operation in `X-Amz-Target`: `AmazonSQS`, `Kinesis_20131202`. `None`: it does not speak JSON.
    pub target: Option<&'static str>,
    /// The version of JSON in content types: `1.0`, `1.1`.
    pub json_version: &'static str,
    /// It takes and gives CBOR too.
    pub cbor: bool,
    /// `Version` in the query protocol, and the namespace of its XML. `None`: it does not speak it.
    pub query: Option<(&'static str, &'static str)>,
    /// Clients that once spoke the query protocol want its error codes in a header.
    pub query_compatible: bool,
    /// The namespace of error codes in JSON: `com.amazonaws.sqs` makes `com.amazonaws.sqs#QueueDoesNotExist`. `None`: codes stand alone.
    pub error_namespace: Option<&'static str>,
    /// The code of an input that does not satisfy its shape: `ValidationException`, `InvalidParameter`, ...
    pub invalid_code: &'static str,
    /// How a whole request's constraint violations are worded: from all of them, each as AWS words one
    /// (`Value '' at 'streamName' failed to satisfy constraint: Member must have length greater than or equal to 1`).
    pub violations: fn(&[String]) -> ApiError,
    /// How a required member that is missing is worded.
    pub missing: fn(operation: &Operation, member: &str) -> ApiError,
    /// The operations.
    pub operations: &'static [Operation],
    /// How policies guard its resources. `None`: they have none.
    pub guard: Option<&'static Guard>,
    /// What is there to `GET` without a signature: its path, and what makes it from the settings. Certificates, for instance.
    pub pages: &'static [Page],
}

/// Something that anyone may `GET`.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// The path, from the slash on.
    pub path: &'static str,
    /// The content type.
    pub content_type: &'static str,
    /// The body.
    pub body: fn(&Settings) -> bytes::Bytes,
}

/// The account and the region that an input without a signature is for.
pub type Place = fn(&Value) -> Option<(String, String)>;

/// An operation.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    /// Its name.
    pub name: &'static str,
    /// What goes in: a structure.
    pub input: &'static Shape,
    /// What comes out: a structure.
    pub output: &'static Shape,
    /// Does it, once the input has satisfied its shape.
    pub run: fn(Input) -> Flow<Answer>,
    /// It may come without a signature (links in mails and notifications): the input says for which account and region.
    /// Such a call has the rights of the broker itself: the operation checks a token that the service has sealed.
    pub unsigned: Option<Place>,
}

impl Operation {
    /// One that must be signed.
    #[must_use]
    pub const fn new(
        name: &'static str,
        input: &'static Shape,
        output: &'static Shape,
        run: fn(Input) -> Flow<Answer>,
    ) -> Self {
        Self {
            name,
            input,
            output,
            run,
            unsigned: None,
        }
    }

    /// The same, and it may come without a signature.
    #[must_use]
    pub const fn without_signature(mut self, place: Place) -> Self {
        self.unsigned = Some(place);
        self
    }
}

/// An input that satisfies its shape, and who calls.
pub struct Input {
    /// Who, where and when.
    pub call: Arc<Call>,
    /// The input, with the members that its shape has; members that it does not have are dropped.
    pub value: Value,
}

/// Who calls, where, and when.
#[derive(Clone, Debug)]
pub struct Call {
    /// The account whose resources the call is about: twelve digits.
    pub account: Arc<str>,
    /// The region: `us-east-1`.
    pub region: Arc<str>,
    /// The account of the caller: another one if a policy of a resource there has let him in.
    pub caller_account: Arc<str>,
    /// The virtual host that account and region stand for.
    pub vhost: VhostId,
    /// Its name.
    pub vhost_name: Arc<str>,
    /// The virtual host of other accounts and regions, as ARNs name them. `None`: there is none.
    pub vhost_of: fn(&Self, account: &str, region: &str) -> Option<Arc<str>>,
    /// The user behind the access key.
    pub user: Arc<str>,
    /// The access key.
    pub access_key: Arc<str>,
    /// Where the client reached us, without a trailing slash: `http://127.0.0.1:4566`. Queue URLs begin so.
    pub base_url: Arc<str>,
    /// The path of the request: SQS clients of the query protocol name the queue there.
    pub path: Cow<'static, str>,
    /// The id of the request.
    pub request_id: Arc<str>,
    /// When it came.
    pub now: Timestamp,
    /// Chance of its own for this request: 32 bytes that nobody can guess.
    pub random: [u8; 32],
    /// The store's secret: see [`Secret`].
    pub secret: Secret,
    /// What the operator chose.
    pub settings: Arc<Settings>,
    /// Asks the policies of resources.
    pub judge: Judge,
}

impl Call {
    /// Whether it is about another account's resource.
    #[must_use]
    pub fn is_across(&self) -> bool {
        self.caller_account != self.account
    }

    /// The ARN of the caller.
    #[must_use]
    pub fn caller_arn(&self) -> String {
        format!("arn:aws:iam::{}:user/{}", self.caller_account, self.user)
    }

    /// The ARN of a resource of this account and region: `arn:aws:SERVICE:REGION:ACCOUNT:RESOURCE`.
    #[must_use]
    pub fn arn(&self, service: &str, resource: &str) -> String {
        format!(
            "arn:aws:{service}:{}:{}:{resource}",
            self.region, self.account
        )
    }
}

/// What an operation answers. Most answer once ([`Flow::Done`]) with `Output` or `Error`. One that answers with an event stream
/// sends `Output` as its first part, then `Event`s, and ends with `End`.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// The output.
    Output(Value),
    /// An error. Within an event stream: its last event.
    Error(ApiError),
    /// An event of an event stream: its type, and its content.
    Event(&'static str, Value),
    /// The end of an event stream.
    End,
}

impl From<Result<Value, ApiError>> for Answer {
    fn from(result: Result<Value, ApiError>) -> Self {
        match result {
            Ok(value) => Self::Output(value),
            Err(error) => Self::Error(error),
        }
    }
}
