//! Permission rules: what they say yes and no to, and what is wrong with some.

#[path = "rights/patterns.rs"]
mod patterns;
#[path = "rights/words.rs"]
mod words;

use std::sync::Arc;

use auth::{
    Action::{self, Declare, Publish, Subscribe},
    Config, KEY_LEN, Keys, Principal, USER_RULES_MAX, Users, What,
};
use bytes::Bytes;
use message::{Filter, FilterLevel, Levels, Pattern};
use session::{Authenticate, Credentials, Peer, RefusalKind, Token};

fn levels(text: &str) -> Levels {
    Levels::split(Bytes::copy_from_slice(text.as_bytes()), b'/').expect("short")
}

/// An MQTT filter.
fn filter(text: &str) -> Filter {
    let level = |level: &str| match level {
        "+" => FilterLevel::One,
        "#" => FilterLevel::Many,
        level => FilterLevel::Exact(Bytes::copy_from_slice(level.as_bytes())),
    };
    Filter::Pattern(Pattern(text.split('/').map(level).collect()))
}

fn config(text: &str) -> Config {
    let config: Config = toml::from_str(text).unwrap_or_else(|error| panic!("{error}"));
    config.check().unwrap_or_else(|error| panic!("{error}"));
    config
}

fn fault(text: &str) -> String {
    let config: Config = match toml::from_str(text) {
        Ok(config) => config,
        Err(error) => return error.to_string(),
    };
    config.check().expect_err(text).to_string()
}

fn peer(address: &str) -> Peer {
    Peer {
        address: address.parse().expect("an address"),
        listener: "mqtt",
        default_vhost: Arc::from("/"),
    }
}

fn login(users: &Users, user: &str, vhost: &str, client: &str) -> Principal {
    let request = Authenticate {
        token: Token(1),
        credentials: match user {
            "" => Credentials::Anonymous,
            user => Credentials::Plain {
                user: user.to_owned(),
                password: Bytes::from_static(b"x"),
            },
        },
        vhost: Some(vhost.to_owned()),
        vhost_fallback: false,
        vhost_in_user: false,
        vhost_follows: false,
        vhost_create: false,
        verified_anywhere: false,
        protocol: "MQTT 5",
        client: Bytes::copy_from_slice(client.as_bytes()),
    };
    users
        .verify(&request, &peer("127.0.0.1:1"))
        .unwrap_or_else(|refusal| panic!("{user}: {refusal}"))
}

fn users(text: &str) -> Users {
    Users::new(&config(text), [7; KEY_LEN]).expect("checked")
}

/// What user `ada` in `/`, with client id `c1`, may do under these rules of its own.
struct Ada(Principal);

impl Ada {
    fn under(rules: &str) -> Self {
        let text = format!("users = [{{name = 'ada', password = 'x', rules = [{rules}]}}]");
        Self(login(&users(&text), "ada", "/", "c1"))
    }

    fn may(&self, action: Action, what: What<'_>) -> bool {
        self.0.rights.permits(action, what)
    }

    fn publish(&self, topic: &str) -> bool {
        self.may(Publish, What::Topic(Keys::One(&levels(topic))))
    }

    fn subscribe(&self, text: &str) -> bool {
        self.may(Subscribe, What::Topic(Keys::Of(&filter(text))))
    }
}

#[test]
fn without_a_rule_everything_is_allowed_and_nothing_is_held() {
    let ada = Ada::under("");
    assert!(ada.0.rights.is_all());
    for action in Action::ALL {
        assert!(ada.may(action, What::Queue(b"jobs")));
    }
}

#[test]
fn without_a_rule_the_default_decides() {
    let users = users("default = 'deny'\nusers = [{name = 'ada', password = 'x'}]");
    let ada = login(&users, "ada", "/", "");
    for action in Action::ALL {
        assert!(!ada.rights.permits(action, What::Queue(b"jobs")));
    }
}

#[test]
fn deny_rules_alone_leave_the_rest_open() {
    let ada = Ada::under("{deny = ['publish'], topic = 'config/#'}");
    assert!(!ada.publish("config/a") && ada.publish("other"));
    assert!(ada.subscribe("config/#") && ada.may(Declare, What::Queue(b"q")));
}

#[test]
fn one_allow_rule_closes_the_rest() {
    let ada = Ada::under("{allow = ['publish'], topic = 'sensors/#'}");
    assert!(ada.publish("sensors/a") && !ada.publish("other"));
    assert!(!ada.subscribe("sensors/a") && !ada.may(Publish, What::Queue(b"sensors")));
}

#[test]
fn deny_wins_in_either_order() {
    let (allow, deny) = (
        "{allow = ['publish'], topic = 'a/#'}",
        "{deny = ['publish'], topic = 'a/b'}",
    );
    for rules in [format!("{allow}, {deny}"), format!("{deny}, {allow}")] {
        let ada = Ada::under(&rules);
        assert!(ada.publish("a/c") && !ada.publish("a/b"), "{rules}");
    }
}

#[test]
fn a_filter_must_be_covered_and_must_not_touch_what_is_denied() {
    let ada = Ada::under(
        "{allow = ['subscribe'], topic = 'a/#'}, {deny = ['subscribe'], topic = 'a/secret/#'}",
    );
    for (text, allowed) in [
        ("a", true),
        ("a/b", true),
        ("a/b/+", true),
        ("#", false),
        ("+", false),
        ("+/b", false),
        ("b", false),
        ("a/#", false),
        ("a/+", false),
        ("a/secret/x", false),
        ("a/+/x", false),
        ("a/open/#", true),
    ] {
        assert_eq!(ada.subscribe(text), allowed, "{text}");
    }
}

#[test]
fn a_leading_wildcard_of_a_filter_does_not_touch_a_denied_dollar_topic() {
    let ada = Ada::under("{deny = ['subscribe'], topic = '$SYS/#'}");
    for (text, allowed) in [
        ("#", true),
        ("+/x", true),
        ("$SYS/#", false),
        ("$SYS/x", false),
    ] {
        assert_eq!(ada.subscribe(text), allowed, "{text}");
    }
    // Rules themselves know no such exception: whoever denies everything means it.
    let ada = Ada::under("{deny = ['publish'], topic = '#'}");
    assert!(!ada.publish("$x/y"));
}

#[test]
fn substitutions_are_one_literal_level() {
    let text = "users = [{name = 'ada', password = 'x', rules = [
        {allow = ['publish', 'subscribe'], topic = 'at/{client_id}/#'},
        {allow = ['publish'], topic = 'of/{user}'},
        {allow = ['publish'], queue = '{client_id}'}]}]";
    let users = users(text);
    let publish = |client: &str, topic: &str| {
        let rights = login(&users, "ada", "/", client).rights;
        rights.permits(Publish, What::Topic(Keys::One(&levels(topic))))
    };
    assert!(publish("c1", "at/c1/x") && !publish("c1", "at/c2/x"));
    assert!(publish("c1", "of/ada") && !publish("c1", "of/eve"));
    for (client, topic) in [
        ("#", "at/x/y"),
        ("+", "at/x/y"),
        ("c1/x", "at/c1/x"),
        ("c1/#", "at/c1/y"),
        ("", "at//x"),
        ("{user}", "at/ada/x"),
        ("x/../../of", "of/x"),
    ] {
        assert!(!publish(client, topic), "{client:?} {topic:?}");
    }
    // A client id of wildcards is still a level of its own.
    let wild = login(&users, "ada", "/", "+").rights;
    assert!(wild.permits(Publish, What::Topic(Keys::One(&levels("at/+/x")))));
    assert!(!wild.permits(Subscribe, What::Topic(Keys::Of(&filter("at/+/x")))));
    // A separator in it does not make it two words.
    let dotted = login(&users, "ada", "/", "jobs.secret").rights;
    assert!(!dotted.permits(Publish, What::Queue(b"jobs.secret")));
    // An id that the broker has made up counts once it is known.
    let late = login(&users, "ada", "/", "").rights.with_client(b"made-up");
    assert!(late.permits(Publish, What::Topic(Keys::One(&levels("at/made-up/x")))));
}

#[test]
fn kinds_are_apart_and_names_are_words() {
    let ada = Ada::under(
        "{allow = ['declare'], queue = 'jobs.*'}, {allow = ['publish'], exchange = 'orders', key = 'eu.#'},
         {allow = ['subscribe'], exchange = 'open'}, {allow = ['publish'], stream = 'log'}",
    );
    let eu = Levels::split(Bytes::from_static(b"eu.1"), b'.').expect("short");
    let us = Levels::split(Bytes::from_static(b"us.1"), b'.').expect("short");
    for (action, what, allowed) in [
        (Declare, What::Queue(b"jobs.a"), true),
        (Declare, What::Queue(b"jobs"), false),
        (Declare, What::Queue(b"jobs.a.b"), false),
        (Declare, What::Exchange(b"jobs.a", Keys::All), false),
        (Publish, What::Exchange(b"orders", Keys::One(&eu)), true),
        (Publish, What::Exchange(b"orders", Keys::One(&us)), false),
        (Publish, What::Exchange(b"orders", Keys::All), false),
        (Publish, What::Topic(Keys::One(&eu)), false),
        (Subscribe, What::Exchange(b"open", Keys::All), true),
        (
            Subscribe,
            What::Exchange(b"open", Keys::Of(&Filter::All)),
            true,
        ),
        (Publish, What::Stream(b"log"), true),
        (Publish, What::Queue(b"log"), false),
    ] {
        assert_eq!(ada.may(action, what), allowed, "{action} {what}");
    }
    assert_eq!(
        What::exchange(b"amq.topic", Keys::All),
        What::Topic(Keys::All)
    );
}

#[test]
fn everything_is_everything() {
    let ada = Ada::under(
        "{allow = ['publish', 'subscribe', 'declare'], everything = true}, {deny = ['declare'], queue = 'a'}",
    );
    assert!(ada.publish("x") && ada.subscribe("#") && !ada.may(Declare, What::Queue(b"a")));
}

#[test]
fn common_rules_are_for_whom_and_where_they_say() {
    let users = users(
        "vhosts = ['/', 'b']
         users = [{name = 'ada', password = 'x'}, {name = 'eve', password = 'x'}]
         rules = [{users = ['eve'], vhosts = ['b'], deny = ['publish'], queue = 'a'},
                  {users = ['anonymous'], deny = ['publish'], queue = '#'}]",
    );
    let may = |user: &str, vhost: &str| {
        login(&users, user, vhost, "")
            .rights
            .permits(Publish, What::Queue(b"a"))
    };
    assert!(may("ada", "/") && may("ada", "b") && may("eve", "/"));
    assert!(!may("eve", "b") && !may("", "/"));
}

#[test]
fn a_reason_is_withheld_where_the_rule_says_so() {
    let ada = Ada::under(
        "{deny = ['publish'], topic = 'a', reason = 0x80}, {deny = ['publish'], topic = 'b', reason = 0x87}",
    );
    let ask = |topic| {
        ada.0
            .rights
            .ask(Publish, What::Topic(Keys::One(&levels(topic))))
    };
    assert!(ask("a").expect_err("denied").withheld);
    assert!(!ask("b").expect_err("denied").withheld);
    assert!(ask("c").is_ok());
}

#[test]
fn every_queue_is_allowed_by_a_rule_for_all_and_denied_by_a_rule_for_one() {
    for (rules, wanted) in [
        ("{allow = ['publish'], queue = '#'}", true),
        ("{allow = ['publish'], everything = true}", true),
        ("{allow = ['publish'], queue = 'jobs.#'}", false),
        ("{allow = ['publish'], queue = '*'}", false),
        ("{allow = ['publish'], exchange = '#'}", false),
        ("{allow = ['publish'], topic = '#'}", false),
        (
            "{allow = ['publish'], everything = true}, {deny = ['publish'], queue = 'secret'}",
            false,
        ),
        (
            "{allow = ['publish'], everything = true}, {deny = ['publish'], exchange = 'secret'}",
            true,
        ),
        ("{deny = ['subscribe'], queue = '#'}", true),
    ] {
        let ada = Ada::under(rules);
        assert_eq!(ada.may(Publish, What::EveryQueue), wanted, "{rules}");
    }
}

#[test]
fn an_error_says_which_rule_and_what() {
    for (rule, said) in [
        ("{topic = 'a'}", "says neither what it allows"),
        (
            "{allow = ['publish'], deny = ['publish'], topic = 'a'}",
            "both allows and denies publish",
        ),
        ("{allow = ['read'], topic = 'a'}", "unknown variant `read`"),
        ("{allow = ['publish']}", "it names 0"),
        (
            "{allow = ['publish'], topic = 'a', queue = 'b'}",
            "it names 2",
        ),
        (
            "{allow = ['publish'], everything = true, queue = 'b'}",
            "it names 2",
        ),
        ("{allow = ['publish'], topic = ''}", "which is empty"),
        (
            "{allow = ['publish'], topic = 'a/#/b'}",
            "before its last level",
        ),
        (
            "{allow = ['publish'], topic = 'a/b+'}",
            "a wildcard is a level of its own",
        ),
        ("{allow = ['publish'], queue = 'a*'}", "%2A"),
        ("{allow = ['publish'], topic = 'a/x{user}'}", "{user}"),
        ("{allow = ['publish'], topic = 'a/{username}'}", "{user}"),
        (
            "{allow = ['publish'], exchange = 'amq.topic'}",
            "write topic",
        ),
        (
            "{allow = ['publish'], queue = 'a', key = 'b'}",
            "key without an exchange",
        ),
        (
            "{allow = ['declare'], exchange = 'a', key = 'b'}",
            "nothing about declare",
        ),
        (
            "{deny = ['publish'], topic = 'a', reason = 0x97}",
            "reason = 0x97",
        ),
        (
            "{deny = ['publish'], topic = 'a', reason = 0x7f}",
            "reason = 0x7f",
        ),
        (
            "{deny = ['publish'], topic = 'a', reason = 0x88}",
            "reason = 0x88",
        ),
        (
            "{allow = ['publish'], topic = 'a', reason = 0x80}",
            "denies nothing",
        ),
        (
            "{allow = ['publish'], topic = 'a', vhosts = []}",
            "empty list of vhosts",
        ),
        (
            "{allow = ['publish'], topic = 'a', vhosts = ['x']}",
            "virtual host \"x\", which does not exist",
        ),
        (
            "{allow = ['publish'], topic = 'a', user = 'x'}",
            "unknown field `user`",
        ),
    ] {
        let own = format!("users = [{{name = 'ada', password = 'x', rules = [{rule}]}}]");
        let common = format!("rules = [{rule}]");
        for (text, owner) in [
            (own, "rule 1 of user ada "),
            (common, "rule 1 of auth.rules "),
        ] {
            let fault = fault(&text);
            assert!(fault.contains(said), "{text}: {fault}");
            assert!(
                fault.contains(owner) || fault.contains("unknown"),
                "{fault}"
            );
        }
    }
    let named = fault("rules = [{users = ['eve'], deny = ['publish'], topic = 'a'}]");
    assert!(
        named.contains("user \"eve\", which does not exist"),
        "{named}"
    );
    let inside = fault(
        "users = [{name = 'ada', password = 'x', rules = [{users = ['ada'], deny = ['publish'], topic = 'a'}]}]",
    );
    assert!(inside.contains("names users"), "{inside}");
    assert!(
        fault("guest = false\nrules = [{users = ['guest'], deny = ['publish'], topic = 'a'}]")
            .contains("guest")
    );
}

#[test]
fn patterns_and_rules_have_bounds() {
    let rule = |topic: &str| format!("rules = [{{deny = ['publish'], topic = '{topic}'}}]");
    config(&rule(&"a".repeat(1024)));
    assert!(fault(&rule(&"a".repeat(1025))).contains("longer than 1024 bytes"));
    config(&rule(&vec!["a"; 64].join("/")));
    assert!(fault(&rule(&vec!["a"; 65].join("/"))).contains("more than 64 levels"));
    let many = |count: usize| {
        let rules = vec!["{deny = ['publish'], topic = 'a'}"; count - 1].join(",");
        format!(
            "users = [{{name = 'ada', password = 'x', rules = [{{allow = ['publish'], topic = 'b'}}]}}]\nrules = [{rules}]"
        )
    };
    config(&many(USER_RULES_MAX));
    let fault = fault(&many(USER_RULES_MAX + 1));
    assert!(fault.contains("1001 rules are for user \"ada\""), "{fault}");
}

#[test]
fn who_is_connected_is_looked_at_again() {
    let before = users(
        "vhosts = ['/', 'b']\nusers = [{name = 'ada', password = 'x'}, {name = 'eve', password = 'x'}]",
    );
    let ada = login(&before, "ada", "b", "c1");
    let nobody = login(&before, "", "/", "");
    let here = peer("127.0.0.1:1");
    let again = |text: &str, principal: &Principal, from: &Peer| {
        let next = before.succeeded_by(&config(text)).expect("right");
        next.readmit(principal, "MQTT 5", b"c1", from)
            .map_err(|refusal| refusal.kind)
    };
    let kept = again(
        "vhosts = ['/', 'b']\nusers = [{name = 'ada', password = 'other', rules = [{deny = ['publish'], queue = '{client_id}'}]}]",
        &ada,
        &here,
    )
    .expect("stays");
    assert!(!kept.rights.permits(Publish, What::Queue(b"c1")));
    assert_eq!((&*kept.user, &*kept.vhost), ("ada", "b"));
    for (text, kind) in [
        ("vhosts = ['/', 'b']", RefusalKind::AccessDenied),
        (
            "users = [{name = 'ada', password = 'x'}]",
            RefusalKind::NotFound,
        ),
        (
            "vhosts = ['/', 'b']\nusers = [{name = 'ada', password = 'x', vhosts = ['/']}]",
            RefusalKind::AccessDenied,
        ),
    ] {
        assert_eq!(again(text, &ada, &here), Err(kind), "{text}");
    }
    let local =
        "vhosts = ['/', 'b']\nusers = [{name = 'ada', password = 'x', loopback_only = true}]";
    assert!(again(local, &ada, &here).is_ok());
    assert_eq!(
        again(local, &ada, &peer("192.0.2.1:1")),
        Err(RefusalKind::AccessDenied)
    );
    assert!(again("", &nobody, &here).is_ok());
    assert_eq!(
        again("anonymous.protocols = []", &nobody, &here),
        Err(RefusalKind::BadCredentials)
    );
    assert_eq!(
        again("anonymous.user = 'other'", &nobody, &here),
        Err(RefusalKind::BadCredentials)
    );
}
