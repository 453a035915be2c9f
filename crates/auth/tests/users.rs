//! Who gets in, who does not, and what they are told.

use std::sync::Arc;

use auth::{Action, Config, ConfigError, KEY_LEN, User, Users, What, hash_password};
use session::{Authenticate, Credentials, Peer, Refusal, RefusalKind, Token};

const HERE: &str = "127.0.0.1:40000";
const THERE: &str = "192.0.2.7:40000";

fn users(config: &Config) -> Users {
    Users::new(config, [7; KEY_LEN]).expect("the configuration is right")
}

fn peer(address: &str) -> Peer {
    Peer {
        address: address.parse().expect("an address"),
        listener: "mqtt",
        default_vhost: Arc::from("/"),
    }
}

fn login(user: &str, password: &str) -> Authenticate {
    Authenticate {
        credentials: Credentials::Plain {
            user: user.to_owned(),
            password: bytes::Bytes::copy_from_slice(password.as_bytes()),
        },
        ..anonymous("AMQP 0-9-1")
    }
}

fn anonymous(protocol: &'static str) -> Authenticate {
    Authenticate {
        token: Token(1),
        credentials: Credentials::Anonymous,
        vhost: None,
        vhost_fallback: false,
        vhost_in_user: false,
        vhost_follows: false,
        vhost_create: false,
        verified_anywhere: false,
        protocol,
        client: bytes::Bytes::new(),
    }
}

fn kind(result: Result<auth::Principal, Refusal>) -> RefusalKind {
    result.expect_err("a refusal").kind
}

fn hashed(name: &str, password: &str) -> User {
    User {
        name: name.to_owned(),
        password_hash: Some(hash_password(password.as_bytes(), &[9; 16]).expect("hashes")),
        ..User::default()
    }
}

#[test]
fn administrators_are_those_that_are_called_so_and_the_built_in_guest() {
    let mut config = Config::default();
    for (name, administrator) in [("ada", false), ("root", true)] {
        config.users.push(User {
            administrator,
            ..hashed(name, "x")
        });
    }
    let known = users(&config);
    for (name, is) in [
        ("ada", false),
        ("root", true),
        ("guest", true),
        ("eve", false),
    ] {
        assert_eq!(known.is_administrator(name), is, "{name}");
    }
    config.users.push(hashed("guest", "of my own"));
    assert!(!users(&config).is_administrator("guest"));
}

#[test]
fn guest_works_from_loopback_only() {
    let users = users(&Config::default());
    for here in [HERE, "[::1]:1", "[::ffff:127.0.0.1]:1", "127.9.9.9:1"] {
        let principal = users
            .verify(&login("guest", "guest"), &peer(here))
            .expect(here);
        assert_eq!((&*principal.user, &*principal.vhost), ("guest", "/"));
        assert!(
            principal
                .rights
                .permits(Action::Declare, What::Queue(b"jobs"))
        );
    }
    let refusal = users
        .verify(&login("guest", "guest"), &peer(THERE))
        .expect_err("a refusal");
    assert_eq!(refusal.kind, RefusalKind::AccessDenied);
    assert!(refusal.detail.contains("own machine"), "{}", refusal.detail);
}

#[test]
fn a_wrong_password_and_an_unknown_user_are_told_the_same() {
    let mut config = Config::default();
    config.users.push(hashed("ada", "secret"));
    let users = users(&config);
    let refusals: Vec<Refusal> = [
        ("ada", "Secret"),
        ("ada", ""),
        ("guest", "x"),
        ("nobody", "secret"),
    ]
    .iter()
    .map(|(user, password)| {
        users
            .verify(&login(user, password), &peer(HERE))
            .expect_err("a refusal")
    })
    .collect();
    assert!(refusals.iter().all(|refusal| *refusal == refusals[0]));
    assert_eq!(refusals[0].kind, RefusalKind::BadCredentials);
}

#[test]
fn rules_11_a_right_password_is_remembered_and_a_wrong_one_is_not() {
    let mut config = Config::default();
    config.users.push(hashed("ada", "secret"));
    let users = users(&config);
    assert_eq!(
        kind(users.verify(&login("ada", "wrong"), &peer(HERE))),
        RefusalKind::BadCredentials
    );
    users
        .verify(&login("ada", "secret"), &peer(THERE))
        .expect("right");
    // Ten thousand times Argon2id would take minutes; remembered ones are done before anyone notices.
    for _ in 0..10_000 {
        users
            .verify(&login("ada", "secret"), &peer(THERE))
            .expect("remembered");
    }
    assert_eq!(
        kind(users.verify(&login("ada", "wrong"), &peer(HERE))),
        RefusalKind::BadCredentials
    );
    assert_eq!(
        kind(users.verify(&login("adas", "ecret"), &peer(HERE))),
        RefusalKind::BadCredentials
    );
}

#[test]
fn anonymous_is_for_mqtt_from_loopback() {
    let users = users(&Config::default());
    for protocol in ["MQTT 3.1.1", "MQTT 5"] {
        let principal = users
            .verify(&anonymous(protocol), &peer(HERE))
            .expect("admitted");
        assert_eq!(&*principal.user, "anonymous");
    }
    assert_eq!(
        kind(users.verify(&anonymous("STOMP 1.2"), &peer(HERE))),
        RefusalKind::BadCredentials
    );
    assert_eq!(
        kind(users.verify(&anonymous("MQTT 5"), &peer(THERE))),
        RefusalKind::AccessDenied
    );
    let mut closed = Config::default();
    closed.anonymous.protocols.clear();
    assert_eq!(
        kind(self::users(&closed).verify(&anonymous("MQTT 5"), &peer(HERE))),
        RefusalKind::BadCredentials
    );
}

#[test]
fn guest_can_be_turned_off_and_replaced() {
    let off = Config {
        guest: false,
        ..Config::default()
    };
    assert_eq!(
        kind(users(&off).verify(&login("guest", "guest"), &peer(HERE))),
        RefusalKind::BadCredentials
    );
    let mut own = Config::default();
    own.users.push(User {
        name: "guest".to_owned(),
        password: Some("other".to_owned()),
        ..User::default()
    });
    let users = users(&own);
    users
        .verify(&login("guest", "other"), &peer(THERE))
        .expect("one's own guest comes from anywhere");
    assert_eq!(
        kind(users.verify(&login("guest", "guest"), &peer(HERE))),
        RefusalKind::BadCredentials
    );
    assert_eq!(own.plain_passwords().collect::<Vec<_>>(), ["guest"]);
}

#[test]
fn doors_27_a_virtual_host_is_asked_for_or_falls_back() {
    let mut config = Config {
        vhosts: vec!["/".into(), "test".into()],
        ..Config::default()
    };
    config.users.push(User {
        name: "ada".into(),
        password: Some("a".into()),
        vhosts: Some(vec!["test".into()]),
        ..User::default()
    });
    let users = users(&config);
    let ask = |user: &str, vhost: Option<&str>, fallback: bool| {
        let request = Authenticate {
            vhost: vhost.map(str::to_owned),
            vhost_fallback: fallback,
            vhost_in_user: false,
            ..login(user, if user == "ada" { "a" } else { "guest" })
        };
        users
            .verify(&request, &peer(HERE))
            .map(|principal| principal.vhost.to_string())
    };
    assert_eq!(ask("guest", Some("test"), false).as_deref(), Ok("test"));
    assert_eq!(ask("guest", Some("nowhere"), true).as_deref(), Ok("/"));
    let refusal = ask("guest", Some("nowhere"), false).expect_err("unknown");
    assert_eq!(
        (refusal.kind, &*refusal.detail),
        (
            RefusalKind::NotFound,
            "virtual host 'nowhere' does not exist"
        )
    );
    assert_eq!(ask("ada", Some("test"), false).as_deref(), Ok("test"));
    assert_eq!(
        ask("ada", None, false).expect_err("limited").kind,
        RefusalKind::AccessDenied
    );
    assert_eq!(
        ask("ada", Some("nowhere"), true).expect_err("limited").kind,
        RefusalKind::AccessDenied
    );
}

#[test]
fn a_virtual_host_may_stand_before_the_users_name() {
    let mut config = Config {
        vhosts: vec!["/".into(), "test".into(), "a:b".into()],
        ..Config::default()
    };
    for name in ["ada", "test:own"] {
        config.users.push(User {
            name: name.into(),
            password: Some("guest".into()),
            ..User::default()
        });
    }
    let users = users(&config);
    let ask = |user: &str, within: bool| {
        let request = Authenticate {
            vhost_in_user: within,
            ..login(user, "guest")
        };
        users
            .verify(&request, &peer(HERE))
            .map(|principal| (principal.vhost.to_string(), principal.user.to_string()))
            .map_err(|refusal| refusal.kind)
    };
    let found = |vhost: &str, user: &str| Ok((vhost.to_owned(), user.to_owned()));
    assert_eq!(ask("test:guest", true), found("test", "guest"));
    assert_eq!(ask("/:ada", true), found("/", "ada"));
    // At the last colon, as RabbitMQ does.
    assert_eq!(ask("a:b:ada", true), found("a:b", "ada"));
    assert_eq!(ask("ada", true), found("/", "ada"));
    // A user of that very name comes first; without such a virtual host it is nothing but a name.
    assert_eq!(ask("test:own", true), found("/", "test:own"));
    assert_eq!(ask("none:ada", true), Err(RefusalKind::BadCredentials));
    assert_eq!(ask("test:", true), Err(RefusalKind::BadCredentials));
    // Other protocols have their own words for it.
    assert_eq!(ask("test:ada", false), Err(RefusalKind::BadCredentials));
}

#[test]
fn a_configuration_that_cannot_be_is_refused() {
    let with = |user: User| {
        Config {
            users: vec![user],
            ..Config::default()
        }
        .check()
    };
    let named = |name: &str| User {
        name: name.into(),
        password: Some("x".into()),
        ..User::default()
    };
    assert_eq!(with(named("ada")), Ok(()));
    assert_eq!(with(named(&"n".repeat(255))), Ok(()));
    assert!(matches!(
        with(named(&"n".repeat(256))),
        Err(ConfigError::Name { what: "user", .. })
    ));
    assert!(matches!(with(named("")), Err(ConfigError::Name { .. })));
    let twice = Config {
        users: vec![named("ada"), named("ada")],
        ..Config::default()
    };
    assert!(matches!(twice.check(), Err(ConfigError::Twice { .. })));
    let none = User {
        password: None,
        ..named("ada")
    };
    assert!(matches!(with(none), Err(ConfigError::Password { .. })));
    for (hash, fault) in [
        ("secret", "PHC"),
        (
            "$argon2i$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA",
            "Argon2id",
        ),
        (
            "$argon2id$v=19$m=262145,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA",
            "m=262144",
        ),
        (
            "$argon2id$v=19$m=64,t=17,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA",
            "t=16",
        ),
        ("$argon2id$v=19$m=64,t=1,p=1", "lacks"),
    ] {
        let error = with(User {
            password: None,
            password_hash: Some(hash.into()),
            ..named("ada")
        });
        let error = error.expect_err(hash).to_string();
        assert!(error.contains(fault), "{hash}: {error}");
    }
    let vhosts = User {
        vhosts: Some(vec!["gone".into()]),
        ..named("ada")
    };
    assert!(matches!(with(vhosts), Err(ConfigError::UserVhosts { .. })));
    let no_vhosts = User {
        vhosts: Some(Vec::new()),
        ..named("ada")
    };
    assert!(matches!(
        with(no_vhosts),
        Err(ConfigError::UserVhosts { .. })
    ));
    assert_eq!(
        Config {
            vhosts: Vec::new(),
            ..Config::default()
        }
        .check(),
        Err(ConfigError::NoVhost)
    );
}

#[test]
fn no_password_shows_in_debug() {
    let mut config = Config::default();
    config.users.push(User {
        name: "ada".into(),
        password: Some("hunter2".into()),
        ..User::default()
    });
    assert!(!format!("{config:?} {:?}", users(&config)).contains("hunter2"));
}

#[test]
fn a_configuration_is_read_and_unknown_keys_are_refused() {
    let config: Config =
        toml::from_str("guest = false\n[[users]]\nname = 'ada'\npassword = 'x'").expect("reads");
    assert!(!config.guest && config.users[0].name == "ada" && config.vhosts == ["/"]);
    assert!(toml::from_str::<Config>("gest = false").is_err());
}

fn vouched(user: &str, vhost: Option<&str>, create: bool) -> Authenticate {
    Authenticate {
        credentials: Credentials::Vouched { user: user.into() },
        vhost: vhost.map(str::to_owned),
        vhost_create: create,
        verified_anywhere: false,
        ..anonymous("SQS")
    }
}

#[test]
fn a_door_vouches_for_users_that_there_are_and_the_other_rules_hold() {
    let mut config = Config {
        vhosts: vec!["/".to_owned(), "b".to_owned()],
        ..Config::default()
    };
    config.users.push(User {
        vhosts: Some(vec!["b".to_owned()]),
        ..hashed("ada", "x")
    });
    let users = users(&config);
    let here = peer(HERE);
    let guest = users.verify(&vouched("guest", None, false), &here);
    assert_eq!(&*guest.expect("guest").user, "guest");
    let ada = users.verify(&vouched("ada", Some("b"), false), &peer(THERE));
    assert_eq!(&*ada.expect("ada").vhost, "b");
    for (user, vhost, from, why) in [
        ("eve", None, HERE, RefusalKind::BadCredentials),
        ("guest", None, THERE, RefusalKind::AccessDenied),
        ("ada", Some("/"), HERE, RefusalKind::AccessDenied),
        ("guest", Some("none"), HERE, RefusalKind::NotFound),
    ] {
        let refused = users.verify(&vouched(user, vhost, false), &peer(from));
        assert_eq!(kind(refused), why, "{user} {vhost:?} {from}");
    }
}

#[test]
fn a_virtual_host_that_is_made_on_first_use_is_there_for_everyone_until_the_end() {
    let config = Config::default();
    let before = users(&config);
    let here = peer(HERE);
    let made = before.verify(&vouched("guest", Some("new"), true), &here);
    let made = made.expect("made");
    assert_eq!(&*made.vhost, "new");
    let mut plain = login("guest", "guest");
    plain.vhost = Some("new".to_owned());
    assert!(before.verify(&plain, &here).is_ok());
    // Also under users that take the place of these.
    let after = before.succeeded_by(&config).expect("right");
    assert!(after.readmit(&made, "SQS", b"", &here).is_ok());
    for name in ["", "a\nb"] {
        let refused = before.verify(&vouched("guest", Some(name), true), &here);
        assert_eq!(kind(refused), RefusalKind::InvalidName);
    }
    // Who may be in some virtual hosts only may not be in new ones.
    let mut config = Config::default();
    config.users.push(User {
        vhosts: Some(vec!["/".to_owned()]),
        ..hashed("ada", "x")
    });
    let refused = users(&config).verify(&vouched("ada", Some("new"), true), &here);
    assert_eq!(kind(refused), RefusalKind::AccessDenied);
}

#[test]
fn no_rule_holds_for_the_broker_itself() {
    let config = Config {
        guest: false,
        default: auth::Otherwise::Deny,
        ..Config::default()
    };
    let users = users(&config);
    let request = Authenticate {
        credentials: Credentials::Broker,
        ..anonymous("SNS")
    };
    // Also where nobody else may be any more.
    for vhost in ["/", "closed"] {
        let request = Authenticate {
            vhost: Some(vhost.to_owned()),
            ..request.clone()
        };
        let broker = users
            .verify(&request, &peer(THERE))
            .expect("it is ourselves");
        assert!(broker.broker && broker.rights.is_all() && &*broker.vhost == vhost);
        let again = users.readmit(&broker, "SNS", b"", &peer(THERE));
        assert_eq!(again.expect("still there"), broker);
    }
}

#[test]
fn elsewhere_somebody_has_the_rights_of_that_virtual_host_if_they_may_be_there() {
    let rule = |vhost: &str, queue: &str| auth::Rule {
        vhosts: Some(vec![vhost.to_owned()]),
        allow: vec![Action::Publish],
        queue: Some(queue.to_owned()),
        ..auth::Rule::default()
    };
    let mut config = Config {
        vhosts: vec!["/".to_owned(), "b".to_owned(), "c".to_owned()],
        ..Config::default()
    };
    config.users.push(User {
        vhosts: Some(vec!["/".to_owned(), "b".to_owned()]),
        rules: vec![rule("/", "here"), rule("b", "there")],
        ..hashed("ada", "x")
    });
    let users = users(&config);
    let ada = users.verify(&login("ada", "x"), &peer(HERE)).expect("ada");
    let may = |principal: &auth::Principal, queue: &'static str| {
        let name = message::Name::from_static(queue.as_bytes());
        principal
            .rights
            .permits(Action::Publish, What::Queue(&name))
    };
    assert_eq!([may(&ada, "here"), may(&ada, "there")], [true, false]);
    let there = users.elsewhere(&ada, "b").expect("open to ada");
    assert_eq!((&*there.user, &*there.vhost), ("ada", "b"));
    assert_eq!([may(&there, "here"), may(&there, "there")], [false, true]);
    assert_eq!(kind(users.elsewhere(&ada, "c")), RefusalKind::AccessDenied);
    // It need not be there yet, but for who may be in some only.
    let guest = users.verify(&login("guest", "guest"), &peer(HERE));
    let guest = guest.expect("guest");
    assert!(users.elsewhere(&guest, "later").is_ok());
    assert_eq!(
        kind(users.elsewhere(&ada, "later")),
        RefusalKind::AccessDenied
    );
    // Somebody who is nobody has no user's rights there either.
    let nobody = users
        .verify(&anonymous("MQTT 5"), &peer(HERE))
        .expect("anybody");
    assert!(users.elsewhere(&nobody, "b").expect("open").anonymous);
}
