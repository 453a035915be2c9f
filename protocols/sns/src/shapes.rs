//! The shapes of inputs and outputs, as the API reference of SNS has them. What is not in a shape (the pattern of a topic's
//! name, the rules of attributes) SNS checks in words of its own: the operations do.

use aws::{Member, Shape};

const fn must(name: &'static str, shape: &'static Shape) -> Member {
    Member::required(name, shape)
}
const fn may(name: &'static str, shape: &'static Shape) -> Member {
    Member::new(name, shape)
}

static TEXT: Shape = Shape::TEXT;
static TEXTS: Shape = Shape::list(&TEXT);
static MAP: Shape = Shape::map(&TEXT);
static ARN: Shape = Shape::text(1, 1011);
static BOOL: Shape = Shape::Bool;
static BLOB: Shape = Shape::BLOB;
static TIME: Shape = Shape::Time;

/// No members, and in the query protocol no element for the result either.
pub(crate) static EMPTY: Shape = Shape::EMPTY;
/// The same with an element, which clients look for: it has a member that is never there.
pub(crate) static EMPTY_RESULT: Shape = Shape::Structure(&[may("Nothing", &TEXT)]);

static TAG: Shape = Shape::Structure(&[
    must("Key", &Shape::text(1, 128)),
    must("Value", &Shape::text(0, 256)),
]);
static TAGS: Shape = Shape::list(&TAG);
static TAG_KEYS: Shape = Shape::list(&Shape::text(1, 128));

static ATTRIBUTE: Shape = Shape::Structure(&[
    must("DataType", &TEXT),
    may("StringValue", &TEXT),
    may("BinaryValue", &BLOB),
]);
static ATTRIBUTES: Shape = Shape::Map {
    of: &ATTRIBUTE,
    min: 0,
    max: u32::MAX,
    key: "Name",
    value: "Value",
    flat: None,
};

/// Inputs, each named by its operation. Lists and maps that must be there are not required here: the query protocol writes empty ones
/// as nothing, and the operations have words of their own for those that must not be empty.
pub(crate) mod input {
    use super::{ARN, ATTRIBUTES, MAP, Member, Shape, TAG_KEYS, TAGS, TEXT, TEXTS, may, must};

    macro_rules! inputs {
        ($($name:ident: [$($member:expr),* $(,)?];)*) => {
            $(pub(crate) static $name: Shape = Shape::Structure(&[$($member),*]);)*
        };
    }

    const TOPIC_ARN: Member = must("TopicArn", &TEXT);
    const NEXT: Member = may("NextToken", &TEXT);
    static NUMBER: Shape = Shape::Text {
        min: 0,
        max: 20,
        check: Some(aws::Checked {
            pattern: "^(\\+[0-9]{8,}|[0-9]{0,9})$",
            holds: is_sandbox_number,
        }),
    };
    static PASSWORD: Shape = Shape::Text {
        min: 5,
        max: 8,
        check: Some(aws::Checked {
            pattern: "^[0-9]+$",
            holds: is_digits,
        }),
    };

    fn is_digits(text: &str) -> bool {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
    }

    fn is_sandbox_number(text: &str) -> bool {
        match text.strip_prefix('+') {
            Some(digits) => digits.len() >= 8 && is_digits(digits),
            None => text.len() <= 9 && (text.is_empty() || is_digits(text)),
        }
    }
    static LANGUAGES: Shape = Shape::Choice(&[
        "en-US", "en-GB", "es-419", "es-ES", "de-DE", "fr-CA", "fr-FR", "it-IT", "ja-JP", "pt-BR",
        "kr-KR", "zh-CN", "zh-TW",
    ]);
    static ENTRY: Shape = Shape::Structure(&[
        must("Id", &TEXT),
        must("Message", &TEXT),
        may("Subject", &TEXT),
        may("MessageStructure", &TEXT),
        may("MessageAttributes", &ATTRIBUTES),
        may("MessageDeduplicationId", &TEXT),
        may("MessageGroupId", &TEXT),
    ]);

    inputs! {
        CREATE_TOPIC: [must("Name", &TEXT), may("Attributes", &MAP), may("Tags", &TAGS), may("DataProtectionPolicy", &TEXT)];
        TOPIC: [TOPIC_ARN];
        NEXT_ONLY: [NEXT];
        SET_TOPIC_ATTRIBUTES: [TOPIC_ARN, must("AttributeName", &TEXT), may("AttributeValue", &TEXT)];
        TOPIC_AND_NEXT: [TOPIC_ARN, NEXT];
        ADD_PERMISSION: [TOPIC_ARN, must("Label", &TEXT), may("AWSAccountId", &TEXTS), may("ActionName", &TEXTS)];
        REMOVE_PERMISSION: [TOPIC_ARN, must("Label", &TEXT)];
        SUBSCRIBE: [
            TOPIC_ARN, must("Protocol", &TEXT), may("Endpoint", &TEXT), may("Attributes", &MAP),
            may("ReturnSubscriptionArn", &Shape::Bool),
        ];
        CONFIRM_SUBSCRIPTION: [TOPIC_ARN, must("Token", &TEXT), may("AuthenticateOnUnsubscribe", &TEXT)];
        SUBSCRIPTION: [must("SubscriptionArn", &TEXT)];
        SET_SUBSCRIPTION_ATTRIBUTES: [
            must("SubscriptionArn", &TEXT), must("AttributeName", &TEXT), may("AttributeValue", &TEXT),
        ];
        PUBLISH: [
            may("TopicArn", &TEXT), may("TargetArn", &TEXT), may("PhoneNumber", &TEXT), must("Message", &TEXT),
            may("Subject", &TEXT), may("MessageStructure", &TEXT), may("MessageAttributes", &ATTRIBUTES),
            may("MessageDeduplicationId", &TEXT), may("MessageGroupId", &TEXT),
        ];
        PUBLISH_BATCH: [TOPIC_ARN, may("PublishBatchRequestEntries", &Shape::list(&ENTRY))];
        RESOURCE: [must("ResourceArn", &ARN)];
        TAG_RESOURCE: [must("ResourceArn", &ARN), may("Tags", &TAGS)];
        UNTAG_RESOURCE: [must("ResourceArn", &ARN), may("TagKeys", &TAG_KEYS)];
        CREATE_APPLICATION: [must("Name", &TEXT), must("Platform", &TEXT), may("Attributes", &MAP)];
        APPLICATION: [must("PlatformApplicationArn", &TEXT)];
        SET_APPLICATION: [must("PlatformApplicationArn", &TEXT), may("Attributes", &MAP)];
        APPLICATION_AND_NEXT: [must("PlatformApplicationArn", &TEXT), NEXT];
        CREATE_ENDPOINT: [
            must("PlatformApplicationArn", &TEXT), must("Token", &TEXT), may("CustomUserData", &TEXT), may("Attributes", &MAP),
        ];
        ENDPOINT: [must("EndpointArn", &TEXT)];
        SET_ENDPOINT: [must("EndpointArn", &TEXT), may("Attributes", &MAP)];
        SET_SMS: [may("attributes", &MAP)];
        GET_SMS: [may("attributes", &TEXTS)];
        PHONE: [must("phoneNumber", &TEXT)];
        OPTED_OUT: [may("nextToken", &TEXT)];
        ORIGINATION: [NEXT, may("MaxResults", &Shape::Int { min: 1, max: 30 })];
        SANDBOX_LIST: [NEXT, may("MaxResults", &Shape::Int { min: 1, max: 100 })];
        SANDBOX_CREATE: [must("PhoneNumber", &NUMBER), may("LanguageCode", &LANGUAGES)];
        SANDBOX_PHONE: [must("PhoneNumber", &NUMBER)];
        SANDBOX_VERIFY: [must("PhoneNumber", &NUMBER), must("OneTimePassword", &PASSWORD)];
        PUT_PROTECTION: [must("ResourceArn", &TEXT), must("DataProtectionPolicy", &TEXT)];
    }
}

/// Outputs.
pub(crate) mod output {
    use super::{BOOL, MAP, Shape, TAGS, TEXT, TEXTS, TIME, may};

    static TOPIC: Shape = Shape::Structure(&[may("TopicArn", &TEXT)]);
    static SUBSCRIPTION: Shape = Shape::Structure(&[
        may("SubscriptionArn", &TEXT),
        may("Owner", &TEXT),
        may("Protocol", &TEXT),
        may("Endpoint", &TEXT),
        may("TopicArn", &TEXT),
    ]);
    static SUCCESS: Shape = Shape::Structure(&[
        may("Id", &TEXT),
        may("MessageId", &TEXT),
        may("SequenceNumber", &TEXT),
    ]);
    static FAILURE: Shape = Shape::Structure(&[
        may("Id", &TEXT),
        may("Code", &TEXT),
        may("Message", &TEXT),
        may("SenderFault", &BOOL),
    ]);
    static APPLICATION: Shape = Shape::Structure(&[
        may("PlatformApplicationArn", &TEXT),
        may("Attributes", &MAP),
    ]);
    static ENDPOINT: Shape =
        Shape::Structure(&[may("EndpointArn", &TEXT), may("Attributes", &MAP)]);
    static SANDBOX_NUMBER: Shape =
        Shape::Structure(&[may("PhoneNumber", &TEXT), may("Status", &TEXT)]);
    static ORIGINATION_NUMBER: Shape = Shape::Structure(&[
        may("CreatedAt", &TIME),
        may("PhoneNumber", &TEXT),
        may("Status", &TEXT),
        may("Iso2CountryCode", &TEXT),
        may("RouteType", &TEXT),
        may("NumberCapabilities", &TEXTS),
    ]);

    macro_rules! outputs {
        ($($name:ident: [$($member:expr),* $(,)?];)*) => {
            $(pub(crate) static $name: Shape = Shape::Structure(&[$($member),*]);)*
        };
    }

    outputs! {
        CREATE_TOPIC: [may("TopicArn", &TEXT)];
        LIST_TOPICS: [may("Topics", &Shape::list(&TOPIC)), may("NextToken", &TEXT)];
        ATTRIBUTES: [may("Attributes", &MAP)];
        SUBSCRIBE: [may("SubscriptionArn", &TEXT)];
        LIST_SUBSCRIPTIONS: [may("Subscriptions", &Shape::list(&SUBSCRIPTION)), may("NextToken", &TEXT)];
        PUBLISH: [may("MessageId", &TEXT), may("SequenceNumber", &TEXT)];
        PUBLISH_BATCH: [may("Successful", &Shape::list(&SUCCESS)), may("Failed", &Shape::list(&FAILURE))];
        TAGS_LIST: [may("Tags", &TAGS)];
        CREATE_APPLICATION: [may("PlatformApplicationArn", &TEXT)];
        LIST_APPLICATIONS: [may("PlatformApplications", &Shape::list(&APPLICATION)), may("NextToken", &TEXT)];
        CREATE_ENDPOINT: [may("EndpointArn", &TEXT)];
        LIST_ENDPOINTS: [may("Endpoints", &Shape::list(&ENDPOINT)), may("NextToken", &TEXT)];
        SMS: [may("attributes", &MAP)];
        IS_OPTED_OUT: [may("isOptedOut", &BOOL)];
        OPTED_OUT: [may("phoneNumbers", &TEXTS), may("nextToken", &TEXT)];
        ORIGINATION: [may("NextToken", &TEXT), may("PhoneNumbers", &Shape::list(&ORIGINATION_NUMBER))];
        SANDBOX_STATUS: [may("IsInSandbox", &BOOL)];
        SANDBOX_LIST: [may("PhoneNumbers", &Shape::list(&SANDBOX_NUMBER)), may("NextToken", &TEXT)];
        PROTECTION: [may("DataProtectionPolicy", &TEXT)];
    }
}
