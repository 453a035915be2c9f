//! Tables: documents and what they say to questions, and documents that are refused.

use message::Timestamp;

use super::{
    Policy, PolicyFault, Principal, Question,
    Verdict::{self, Allowed, Denied, Silent},
    is_like,
};

const ARN: &str = "arn:aws:sqs:us-east-1:111111111111:orders";
const TOPIC: &str = "arn:aws:sns:us-east-1:222222222222:news";
const ANN: Principal<'_> = Principal::User {
    account: "222222222222",
    user: "ann",
};
/// Her account.
const OF_ANN: Principal<'_> = Principal::Account("222222222222");
const SNS: Principal<'_> = Principal::Service("sns.amazonaws.com");
/// 2026-03-01T12:00:00Z.
const NOW: Timestamp = Timestamp(1_772_366_400_000);

fn policy(text: &str) -> Policy {
    Policy::read(text, "sqs").unwrap_or_else(|fault| panic!("{text}: {fault}"))
}

fn judge(text: &str, principal: Principal<'_>, action: &str, keys: &[(&str, &str)]) -> Verdict {
    policy(text).judge(&Question {
        principal,
        action,
        resource: ARN,
        now: NOW,
        keys,
    })
}

/// One statement that allows, with these for principal, action, and what follows.
fn allow(principal: &str, action: &str, rest: &str) -> String {
    format!(
        r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Allow","Principal":{principal},"Action":{action}{rest}}}}}"#
    )
}

fn conditional(condition: &str) -> String {
    allow("\"*\"", "\"sqs:*\"", &format!(",\"Condition\":{condition}"))
}

#[test]
fn principals_are_told_apart() {
    for (principal, who, verdict) in [
        (r#""*""#, ANN, Allowed),
        (r#""*""#, SNS, Allowed),
        (r#"{"AWS":"*"}"#, ANN, Allowed),
        (r#"{"AWS":"*"}"#, SNS, Allowed),
        (r#"{"AWS":"222222222222"}"#, ANN, Allowed),
        (r#"{"AWS":"222222222222"}"#, SNS, Silent),
        (r#"{"AWS":"arn:aws:iam::222222222222:root"}"#, ANN, Allowed),
        (r#"{"AWS":"arn:aws:iam::333333333333:root"}"#, ANN, Silent),
        (r#"{"AWS":"222222222222"}"#, OF_ANN, Allowed),
        (r#"{"AWS":"333333333333"}"#, OF_ANN, Silent),
        (
            r#"{"AWS":"arn:aws:iam::222222222222:user/ann"}"#,
            OF_ANN,
            Silent,
        ),
        (
            r#"{"AWS":"arn:aws:iam::222222222222:user/ann"}"#,
            ANN,
            Allowed,
        ),
        (
            r#"{"AWS":"arn:aws:iam::222222222222:user/bob"}"#,
            ANN,
            Silent,
        ),
        (
            r#"{"AWS":"arn:aws:iam::333333333333:user/ann"}"#,
            ANN,
            Silent,
        ),
        (
            r#"{"AWS":["333333333333","arn:aws:iam::222222222222:user/ann"]}"#,
            ANN,
            Allowed,
        ),
        (r#"{"Service":"sns.amazonaws.com"}"#, SNS, Allowed),
        (r#"{"Service":"sns.amazonaws.com"}"#, ANN, Silent),
        (
            r#"{"Service":["s3.amazonaws.com","sns.amazonaws.com"]}"#,
            SNS,
            Allowed,
        ),
        (r#"{"Service":"s3.amazonaws.com"}"#, SNS, Silent),
        (
            r#"{"AWS":"333333333333","Service":"sns.amazonaws.com"}"#,
            SNS,
            Allowed,
        ),
    ] {
        let text = allow(principal, "\"sqs:*\"", "");
        assert_eq!(judge(&text, who, "sqs:SendMessage", &[]), verdict, "{text}");
    }
    let all_but =
        r#"{"Statement":[{"Effect":"Deny","NotPrincipal":{"AWS":"222222222222"},"Action":"*"}]}"#;
    assert_eq!(judge(all_but, ANN, "sqs:SendMessage", &[]), Silent);
    assert_eq!(judge(all_but, SNS, "sqs:SendMessage", &[]), Denied);
}

#[test]
fn actions_are_patterns_in_any_case() {
    for (action, asked, verdict) in [
        (r#""*""#, "sqs:SendMessage", Allowed),
        (r#""SQS:*""#, "sqs:SendMessage", Allowed),
        (r#""sqs:sendmessage""#, "sqs:SendMessage", Allowed),
        (r#""sqs:SendMessage""#, "sqs:SendMessageBatch", Allowed),
        (r#""sqs:SendMessage""#, "sqs:ReceiveMessage", Silent),
        (r#""sqs:Get*""#, "sqs:GetQueueUrl", Allowed),
        (r#""sqs:?eceiveMessage""#, "sqs:ReceiveMessage", Allowed),
        (r#""sqs:SendMessag""#, "sqs:SendMessage", Silent),
        (
            r#"["sqs:SendMessage","sqs:DeleteMessage"]"#,
            "sqs:DeleteMessageBatch",
            Allowed,
        ),
    ] {
        let text = allow("\"*\"", action, "");
        assert_eq!(judge(&text, ANN, asked, &[]), verdict, "{text} {asked}");
    }
    let all_but = r#"{"Statement":{"Effect":"Allow","Principal":"*","NotAction":"sqs:Delete*"}}"#;
    assert_eq!(judge(all_but, ANN, "sqs:DeleteMessage", &[]), Silent);
    assert_eq!(judge(all_but, ANN, "sqs:SendMessage", &[]), Allowed);
}

#[test]
fn resources_are_patterns() {
    for (rest, verdict) in [
        ("", Allowed),
        (r#","Resource":"*""#, Allowed),
        (
            r#","Resource":"arn:aws:sqs:us-east-1:111111111111:orders""#,
            Allowed,
        ),
        (
            r#","Resource":"arn:aws:sqs:us-east-1:111111111111:Orders""#,
            Silent,
        ),
        (r#","Resource":"arn:aws:sqs:*:111111111111:ord*s""#, Allowed),
        (
            r#","Resource":["x","arn:aws:sqs:us-east-1:111111111111:*"]"#,
            Allowed,
        ),
        (r#","NotResource":"arn:aws:sqs:*""#, Silent),
        (r#","NotResource":"arn:aws:sqs:*:jobs""#, Allowed),
    ] {
        let text = allow("\"*\"", "\"sqs:*\"", rest);
        assert_eq!(judge(&text, ANN, "sqs:SendMessage", &[]), verdict, "{rest}");
    }
}

#[test]
fn a_denial_counts_before_all_allowances() {
    let statement = |effect: &str, action: &str| {
        format!(r#"{{"Effect":"{effect}","Principal":"*","Action":"{action}"}}"#)
    };
    let (all, one) = (
        statement("Allow", "sqs:*"),
        statement("Deny", "sqs:SendMessage"),
    );
    for text in [
        format!(r#"{{"Statement":[{all},{one}]}}"#),
        format!(r#"{{"Statement":[{one},{all}]}}"#),
    ] {
        assert_eq!(judge(&text, ANN, "sqs:SendMessage", &[]), Denied);
        assert_eq!(judge(&text, ANN, "sqs:ReceiveMessage", &[]), Allowed);
        assert!(policy(&text).denies());
    }
    assert_eq!(
        judge(r#"{"Statement":[]}"#, ANN, "sqs:SendMessage", &[]),
        Silent
    );
    assert!(!policy(&format!(r#"{{"Statement":{all}}}"#)).denies());
}

#[test]
fn conditions_hold_or_not() {
    let source = [("aws:SourceArn", TOPIC)];
    let address = [("aws:SourceIp", "203.0.113.9")];
    let none: [(&str, &str); 0] = [];
    for (condition, keys, verdict) in [
        (
            r#"{"ArnEquals":{"aws:SourceArn":"arn:aws:sns:us-east-1:222222222222:news"}}"#,
            &source[..],
            Allowed,
        ),
        (
            r#"{"ArnLike":{"AWS:sourcearn":"arn:aws:sns:*:222222222222:*"}}"#,
            &source,
            Allowed,
        ),
        // A star does not reach over a colon.
        (
            r#"{"ArnLike":{"aws:SourceArn":"arn:*:news"}}"#,
            &source,
            Silent,
        ),
        (
            r#"{"StringLike":{"aws:SourceArn":"arn:*:news"}}"#,
            &source,
            Allowed,
        ),
        (
            r#"{"ArnNotLike":{"aws:SourceArn":"arn:aws:sns:*:*:news"}}"#,
            &source,
            Silent,
        ),
        (
            r#"{"ArnNotEquals":{"aws:SourceArn":"arn:aws:sns:*:*:olds"}}"#,
            &source,
            Allowed,
        ),
        (
            r#"{"ArnEquals":{"aws:SourceArn":"arn:aws:sns:*:*:news"}}"#,
            &none,
            Silent,
        ),
        (
            r#"{"ArnNotEquals":{"aws:SourceArn":"arn:aws:sns:*:*:news"}}"#,
            &none,
            Allowed,
        ),
        (
            r#"{"ArnEqualsIfExists":{"aws:SourceArn":"arn:aws:sns:*:*:olds"}}"#,
            &none,
            Allowed,
        ),
        (
            r#"{"ArnEqualsIfExists":{"aws:SourceArn":"arn:aws:sns:*:*:olds"}}"#,
            &source,
            Silent,
        ),
        (
            r#"{"StringEquals":{"aws:PrincipalAccount":["1","222222222222"]}}"#,
            &none,
            Allowed,
        ),
        (
            r#"{"StringNotEquals":{"aws:PrincipalAccount":["1","222222222222"]}}"#,
            &none,
            Silent,
        ),
        (
            r#"{"StringEquals":{"aws:SourceOwner":"222222222222"}}"#,
            &none,
            Allowed,
        ),
        (r#"{"StringEquals":{"aws:username":"Ann"}}"#, &none, Silent),
        (
            r#"{"StringEqualsIgnoreCase":{"aws:username":"Ann"}}"#,
            &none,
            Allowed,
        ),
        (
            r#"{"StringNotEqualsIgnoreCase":{"aws:username":"Ann"}}"#,
            &none,
            Silent,
        ),
        (
            r#"{"StringNotLike":{"aws:PrincipalArn":"arn:aws:iam::*:user/a*"}}"#,
            &none,
            Silent,
        ),
        (r#"{"Bool":{"aws:SecureTransport":"false"}}"#, &none, Silent),
        (
            r#"{"Bool":{"aws:SecureTransport":false}}"#,
            &[("aws:SecureTransport", "false")],
            Allowed,
        ),
        (
            r#"{"BoolIfExists":{"aws:SecureTransport":"true"}}"#,
            &[("aws:SecureTransport", "false")],
            Silent,
        ),
        (
            r#"{"IpAddress":{"aws:SourceIp":"203.0.113.0/24"}}"#,
            &address,
            Allowed,
        ),
        (
            r#"{"IpAddress":{"aws:SourceIp":"203.0.113.8/31"}}"#,
            &address,
            Allowed,
        ),
        (
            r#"{"IpAddress":{"aws:SourceIp":"203.0.113.8"}}"#,
            &address,
            Silent,
        ),
        (
            r#"{"IpAddress":{"aws:SourceIp":["::/0","0.0.0.0/0"]}}"#,
            &address,
            Allowed,
        ),
        (r#"{"IpAddress":{"aws:SourceIp":"::/0"}}"#, &address, Silent),
        (
            r#"{"NotIpAddress":{"aws:SourceIp":"203.0.113.0/24"}}"#,
            &address,
            Silent,
        ),
        (
            r#"{"IpAddress":{"aws:SourceIp":"2001:db8::/32"}}"#,
            &[("aws:SourceIp", "2001:db8:1::9")],
            Allowed,
        ),
        (
            r#"{"DateGreaterThan":{"aws:CurrentTime":"2026-03-01T11:59:59Z"}}"#,
            &none,
            Allowed,
        ),
        (
            r#"{"DateLessThan":{"aws:CurrentTime":"2026-03-01T12:00:00Z"}}"#,
            &none,
            Silent,
        ),
        (
            r#"{"DateLessThanEquals":{"aws:CurrentTime":"2026-03-01T12:00:00Z"}}"#,
            &none,
            Allowed,
        ),
        (
            r#"{"DateGreaterThanEquals":{"aws:CurrentTime":"2026-03-02"}}"#,
            &none,
            Silent,
        ),
        (
            r#"{"DateEquals":{"aws:EpochTime":"1772366400"}}"#,
            &none,
            Allowed,
        ),
        (
            r#"{"DateNotEquals":{"aws:EpochTime":"1772366400"}}"#,
            &none,
            Silent,
        ),
        (
            r#"{"NumericLessThan":{"aws:EpochTime":1772366401}}"#,
            &none,
            Allowed,
        ),
        (
            r#"{"NumericGreaterThanEquals":{"aws:EpochTime":"1772366400.5"}}"#,
            &none,
            Silent,
        ),
        (
            r#"{"NumericNotEquals":{"aws:EpochTime":"1"}}"#,
            &none,
            Allowed,
        ),
        (r#"{"Null":{"aws:SourceArn":"true"}}"#, &none, Allowed),
        (r#"{"Null":{"aws:SourceArn":"true"}}"#, &source, Silent),
        (r#"{"Null":{"aws:SourceArn":"false"}}"#, &source, Allowed),
        (
            r#"{"ForAllValues:StringEquals":{"sns:Protocol":["sqs"]}}"#,
            &none,
            Allowed,
        ),
        (
            r#"{"ForAllValues:StringEquals":{"sns:Protocol":["sqs"]}}"#,
            &[("sns:Protocol", "http")],
            Silent,
        ),
        (
            r#"{"ForAnyValue:StringEquals":{"sns:Protocol":["sqs","http"]}}"#,
            &[("sns:Protocol", "http")],
            Allowed,
        ),
        (
            r#"{"ForAnyValue:StringNotEquals":{"sns:Protocol":["sqs"]}}"#,
            &none,
            Silent,
        ),
        (
            r#"{"StringLike":{"sns:Endpoint":"*@example.com"}}"#,
            &[("sns:Endpoint", "ann@example.com")],
            Allowed,
        ),
        // All of several must hold.
        (
            r#"{"StringEquals":{"aws:username":"ann","aws:PrincipalType":"Role"}}"#,
            &none,
            Silent,
        ),
        (
            r#"{"StringEquals":{"aws:username":"ann"},"Bool":{"aws:PrincipalIsAWSService":"false"}}"#,
            &none,
            Allowed,
        ),
    ] {
        let text = conditional(condition);
        assert_eq!(
            judge(&text, ANN, "sqs:SendMessage", keys),
            verdict,
            "{condition} {keys:?}"
        );
    }
    let service = conditional(r#"{"Null":{"aws:PrincipalAccount":"true"}}"#);
    assert_eq!(judge(&service, SNS, "sqs:SendMessage", &[]), Allowed);
}

#[test]
fn what_cannot_be_judged_is_refused() {
    let fault = |text: &str| match Policy::read(text, "sqs") {
        Ok(_) => panic!("taken: {text}"),
        Err(fault) => fault,
    };
    for text in ["", "{", "[]", "\"x\"", "null"] {
        assert_eq!(fault(text), PolicyFault::NotJson, "{text}");
    }
    for (text, element) in [
        (r#"{"foo":"bar"}"#, "foo"),
        (r#"{"statement":[]}"#, "statement"),
        (r#"{"Statement":[],"Statement":[]}"#, "Statement"),
        (
            r#"{"Statement":{"Effect":"Allow","Actions":"*"}}"#,
            "Actions",
        ),
        (
            r#"{"Statement":{"Effect":"Allow","Principal":"*","Action":"*","NotAction":"*"}}"#,
            "NotAction",
        ),
    ] {
        assert_eq!(fault(text), PolicyFault::Element(element.into()), "{text}");
    }
    for (text, element) in [
        (r#"{"Version":"2012-10-17"}"#, "Statement"),
        (r#"{"Statement":{"Principal":"*","Action":"*"}}"#, "Effect"),
        (
            r#"{"Statement":{"Effect":"Allow","Action":"*"}}"#,
            "Principal",
        ),
        (
            r#"{"Statement":{"Effect":"Allow","Principal":"*"}}"#,
            "Action",
        ),
    ] {
        assert_eq!(fault(text), PolicyFault::Missing(element), "{text}");
    }
    let foreign = allow("\"*\"", "\"sns:Publish\"", "");
    assert_eq!(
        fault(&foreign),
        PolicyFault::OutOfScope("sns:Publish".into())
    );
    for text in [
        r#"{"Version":"2013-01-01","Statement":[]}"#.to_owned(),
        r#"{"Version":1,"Statement":[]}"#.to_owned(),
        r#"{"Statement":"x"}"#.to_owned(),
        r#"{"Statement":[1]}"#.to_owned(),
        r#"{"Statement":{"Effect":"allow","Principal":"*","Action":"*"}}"#.to_owned(),
        r#"{"Statement":[{"Sid":"a","Effect":"Deny","Principal":"*","Action":"*"},{"Sid":"a","Effect":"Deny","Principal":"*","Action":"*"}]}"#
            .to_owned(),
        allow("\"ann\"", "\"*\"", ""),
        allow("{}", "\"*\"", ""),
        allow(r#"{"AWS":[]}"#, "\"*\"", ""),
        allow(r#"{"AWS":"ann"}"#, "\"*\"", ""),
        allow(r#"{"AWS":"arn:aws:iam::222222222222:user/*"}"#, "\"*\"", ""),
        allow(r#"{"AWS":"arn:aws:iam::2:root"}"#, "\"*\"", ""),
        allow(r#"{"Service":"*"}"#, "\"*\"", ""),
        allow(r#"{"Group":"x"}"#, "\"*\"", ""),
        allow("\"*\"", "\"SendMessage\"", ""),
        allow("\"*\"", "\"sqs:\"", ""),
        allow("\"*\"", "\"sqs:SendMessageBatch\"", ""),
        allow("\"*\"", "[]", ""),
        allow("\"*\"", "[1]", ""),
        allow("\"*\"", "\"*\"", r#","Resource":"""#),
        conditional("[]"),
        conditional(r#"{"Bool":"x"}"#),
        conditional(r#"{"Bool":{"aws:SecureTransport":"maybe"}}"#),
        conditional(r#"{"Bool":{"aws:SecureTransport":[]}}"#),
        conditional(r#"{"IpAddress":{"aws:SourceIp":"10.0.0.0/33"}}"#),
        conditional(r#"{"DateEquals":{"aws:CurrentTime":"yesterday"}}"#),
        conditional(r#"{"NumericEquals":{"aws:EpochTime":"many"}}"#),
        conditional(r#"{"Null":{"aws:SourceArn":"perhaps"}}"#),
    ] {
        let fault = fault(&text);
        assert!(matches!(fault, PolicyFault::Invalid { .. }), "{text}: {fault}");
    }
    for text in [
        allow(r#"{"AWS":"arn:aws:iam::222222222222:role/r"}"#, "\"*\"", ""),
        allow(r#"{"Federated":"x"}"#, "\"*\"", ""),
        allow(
            "\"*\"",
            "\"*\"",
            r#","Resource":"arn:aws:sqs:*:*:${aws:username}""#,
        ),
        conditional(r#"{"StringEquals":{"aws:PrincipalOrgID":"o-1"}}"#),
        conditional(r#"{"StringEquals":{"aws:username":"${aws:x}"}}"#),
        conditional(r#"{"BinaryEquals":{"aws:username":"eA=="}}"#),
        conditional(r#"{"NullIfExists":{"aws:username":"true"}}"#),
        conditional(r#"{"ForSome:StringEquals":{"aws:username":"ann"}}"#),
        conditional(r#"{"DateAfter":{"aws:CurrentTime":"2026-03-01"}}"#),
    ] {
        let fault = fault(&text);
        assert!(
            matches!(fault, PolicyFault::Unsupported { .. }),
            "{text}: {fault}"
        );
    }
    // In the older version it is a text.
    policy(
        r#"{"Version":"2008-10-17","Statement":{"Effect":"Allow","Principal":"*","Action":"*","Resource":"${x}"}}"#,
    );
}

#[test]
fn patterns() {
    for (pattern, text, like) in [
        ("", "", true),
        ("*", "", true),
        ("?", "", false),
        ("a*b*c", "a--b--b-c", true),
        ("a*b*c", "a--b--b-", false),
        ("*a", "aaa", true),
        ("a?c", "abc", true),
        ("a?c", "ac", false),
        ("**x**", "x", true),
        // A character, however many bytes it has.
        ("gr?n", "grün", true),
        ("gr??n", "grün", false),
        ("?", "✓", true),
        ("*?", "ü", true),
        ("*??", "ü", false),
        ("*?ü", "✓ü", true),
    ] {
        assert_eq!(is_like(pattern, text), like, "{pattern} {text}");
    }
    // What would take for ever if each star were tried with each end.
    assert!(!is_like(&"*a".repeat(60), &"a".repeat(59)));
}
