//! Amazon SNS (API version 2010-03-31) over the query protocol, and delivery to endpoints. Pure: no socket, no clock, no task.
//!
//! A topic is an object on an address of the root topic space: what is published there, through whichever protocol, reaches its
//! subscriptions, and what SNS publishes reaches whoever reads that address.
//!
//! | file | what |
//! |---|---|
//! | `shapes.rs` | inputs and outputs |
//! | `topics.rs`, `permissions.rs`, `tags.rs` | topics, their policies and tags |
//! | `subscriptions.rs`, `attributes.rs`, `filter.rs` | subscriptions, their attributes and filter policies |
//! | `publish.rs` | Publish and PublishBatch |
//! | `platform.rs`, `sms.rs` | platform applications and their endpoints; phone numbers |
//! | `control.rs` | what is to be sent that no topic brings: confirmations, text messages, pushes |
//! | `deliver.rs` | what is sent to endpoints, and what the outcome means |
//! | `delivery_policy.rs` | when a delivery is tried again |
//! | `egress.rs` | where endpoints may be |
//! | `mail.rs` | mails |
//! | `signing.rs` | the signatures of notifications, and their certificate |
//! | `guard.rs`, `gate.rs` | whom the policies of topics let in, and what those of queues do |
//! | `names.rs`, `steps.rs`, `faults.rs`, `json.rs` | ARNs and tokens; steps that operations are made of; errors |
//!
//! Not here, and refused: `lambda` and `firehose` subscriptions (there is neither), data protection policies, archive and replay,
//! delivery status logging (CloudWatch), `TracingConfig` `Active` (X-Ray). Kept and shown without effect: a topic's `Policy` (the
//! broker's own rules decide), `KmsMasterKeyId` (the journal's encryption is the operator's) and `SubscriptionRoleArn`.
#![forbid(unsafe_code)]

mod attributes;
mod control;
pub mod deliver;
mod delivery_policy;
pub mod egress;
mod faults;
mod filter;
mod gate;
mod guard;
mod json;
mod mail;
mod names;
mod permissions;
mod platform;
mod publish;
mod shapes;
mod signing;
mod sms;
mod steps;
mod subscriptions;
mod tags;
mod topics;

use aws::{Input, Operation, Service};

pub use delivery_policy::{Backoff, DeliveryPolicy, Retries};
pub use gate::Gate;
pub use mail::Mail;
pub use names::{DELIVERY_QUEUE, DELIVERY_VHOST, unsubscribe_url};
pub use signing::Signing;
pub use subscriptions::Protocol;

use shapes::{EMPTY, EMPTY_RESULT, input as i, output as o};
use steps::Run;

/// Data protection is refused: nobody looks into messages here.
fn no_protection(_: Input) -> Run {
    steps::fail(faults::unsupported("A data protection policy"))
}

/// The operations.
static OPERATIONS: [Operation; 42] = [
    Operation::new(
        "AddPermission",
        &i::ADD_PERMISSION,
        &EMPTY,
        permissions::add,
    ),
    Operation::new(
        "CheckIfPhoneNumberIsOptedOut",
        &i::PHONE,
        &o::IS_OPTED_OUT,
        sms::is_opted_out,
    ),
    Operation::new(
        "ConfirmSubscription",
        &i::CONFIRM_SUBSCRIPTION,
        &o::SUBSCRIBE,
        subscriptions::confirm,
    )
    .without_signature(subscriptions::place_of_topic),
    Operation::new(
        "CreatePlatformApplication",
        &i::CREATE_APPLICATION,
        &o::CREATE_APPLICATION,
        platform::create_application,
    ),
    Operation::new(
        "CreatePlatformEndpoint",
        &i::CREATE_ENDPOINT,
        &o::CREATE_ENDPOINT,
        platform::create_endpoint,
    ),
    Operation::new(
        "CreateSMSSandboxPhoneNumber",
        &i::SANDBOX_CREATE,
        &EMPTY_RESULT,
        sms::sandbox_create,
    ),
    Operation::new(
        "CreateTopic",
        &i::CREATE_TOPIC,
        &o::CREATE_TOPIC,
        topics::create,
    ),
    Operation::new(
        "DeleteEndpoint",
        &i::ENDPOINT,
        &EMPTY,
        platform::delete_endpoint,
    ),
    Operation::new(
        "DeletePlatformApplication",
        &i::APPLICATION,
        &EMPTY,
        platform::delete_application,
    ),
    Operation::new(
        "DeleteSMSSandboxPhoneNumber",
        &i::SANDBOX_PHONE,
        &EMPTY_RESULT,
        sms::sandbox_delete,
    ),
    Operation::new("DeleteTopic", &i::TOPIC, &EMPTY, topics::delete),
    Operation::new(
        "GetDataProtectionPolicy",
        &i::RESOURCE,
        &o::PROTECTION,
        no_protection,
    ),
    Operation::new(
        "GetEndpointAttributes",
        &i::ENDPOINT,
        &o::ATTRIBUTES,
        platform::get_endpoint,
    ),
    Operation::new(
        "GetPlatformApplicationAttributes",
        &i::APPLICATION,
        &o::ATTRIBUTES,
        platform::get_application,
    ),
    Operation::new(
        "GetSMSAttributes",
        &i::GET_SMS,
        &o::SMS,
        sms::get_attributes,
    ),
    Operation::new(
        "GetSMSSandboxAccountStatus",
        &EMPTY,
        &o::SANDBOX_STATUS,
        sms::sandbox_status,
    ),
    Operation::new(
        "GetSubscriptionAttributes",
        &i::SUBSCRIPTION,
        &o::ATTRIBUTES,
        subscriptions::get_attributes,
    ),
    Operation::new(
        "GetTopicAttributes",
        &i::TOPIC,
        &o::ATTRIBUTES,
        topics::get_attributes,
    ),
    Operation::new(
        "ListEndpointsByPlatformApplication",
        &i::APPLICATION_AND_NEXT,
        &o::LIST_ENDPOINTS,
        platform::list_endpoints,
    ),
    Operation::new(
        "ListOriginationNumbers",
        &i::ORIGINATION,
        &o::ORIGINATION,
        sms::list_origination,
    ),
    Operation::new(
        "ListPhoneNumbersOptedOut",
        &i::OPTED_OUT,
        &o::OPTED_OUT,
        sms::list_opted_out,
    ),
    Operation::new(
        "ListPlatformApplications",
        &i::NEXT_ONLY,
        &o::LIST_APPLICATIONS,
        platform::list_applications,
    ),
    Operation::new(
        "ListSMSSandboxPhoneNumbers",
        &i::SANDBOX_LIST,
        &o::SANDBOX_LIST,
        sms::sandbox_list,
    ),
    Operation::new(
        "ListSubscriptions",
        &i::NEXT_ONLY,
        &o::LIST_SUBSCRIPTIONS,
        subscriptions::list,
    ),
    Operation::new(
        "ListSubscriptionsByTopic",
        &i::TOPIC_AND_NEXT,
        &o::LIST_SUBSCRIPTIONS,
        subscriptions::list_by_topic,
    ),
    Operation::new(
        "ListTagsForResource",
        &i::RESOURCE,
        &o::TAGS_LIST,
        tags::list,
    ),
    Operation::new("ListTopics", &i::NEXT_ONLY, &o::LIST_TOPICS, topics::list),
    Operation::new("OptInPhoneNumber", &i::PHONE, &EMPTY_RESULT, sms::opt_in),
    Operation::new("Publish", &i::PUBLISH, &o::PUBLISH, publish::publish),
    Operation::new(
        "PublishBatch",
        &i::PUBLISH_BATCH,
        &o::PUBLISH_BATCH,
        publish::publish_batch,
    ),
    Operation::new(
        "PutDataProtectionPolicy",
        &i::PUT_PROTECTION,
        &EMPTY,
        no_protection,
    ),
    Operation::new(
        "RemovePermission",
        &i::REMOVE_PERMISSION,
        &EMPTY,
        permissions::remove,
    ),
    Operation::new(
        "SetEndpointAttributes",
        &i::SET_ENDPOINT,
        &EMPTY,
        platform::set_endpoint_attributes,
    ),
    Operation::new(
        "SetPlatformApplicationAttributes",
        &i::SET_APPLICATION,
        &EMPTY,
        platform::set_application_attributes,
    ),
    Operation::new(
        "SetSMSAttributes",
        &i::SET_SMS,
        &EMPTY_RESULT,
        sms::set_attributes,
    ),
    Operation::new(
        "SetSubscriptionAttributes",
        &i::SET_SUBSCRIPTION_ATTRIBUTES,
        &EMPTY,
        subscriptions::set_attributes,
    ),
    Operation::new(
        "SetTopicAttributes",
        &i::SET_TOPIC_ATTRIBUTES,
        &EMPTY,
        topics::set_attributes,
    ),
    Operation::new(
        "Subscribe",
        &i::SUBSCRIBE,
        &o::SUBSCRIBE,
        subscriptions::subscribe,
    ),
    Operation::new("TagResource", &i::TAG_RESOURCE, &EMPTY_RESULT, tags::tag),
    Operation::new(
        "Unsubscribe",
        &i::SUBSCRIPTION,
        &EMPTY,
        subscriptions::unsubscribe,
    )
    .without_signature(subscriptions::place_of_subscription),
    Operation::new(
        "UntagResource",
        &i::UNTAG_RESOURCE,
        &EMPTY_RESULT,
        tags::untag,
    ),
    Operation::new(
        "VerifySMSSandboxPhoneNumber",
        &i::SANDBOX_VERIFY,
        &EMPTY_RESULT,
        sms::sandbox_verify,
    ),
];

/// SNS.
pub static SERVICE: Service = Service {
    name: "sns",
    target: None,
    json_version: "1.0",
    cbor: false,
    query: Some(("2010-03-31", "http://sns.amazonaws.com/doc/2010-03-31/")),
    query_compatible: false,
    error_namespace: None,
    invalid_code: "ValidationError",
    violations: faults::violations,
    missing: faults::missing,
    operations: &OPERATIONS,
    guard: Some(&guard::GUARD),
    pages: &[signing::PAGE],
};
