//! Logins that wait to be verified.

use std::{
    sync::Arc,
    task::{Context, Waker},
};

use node::{Machine, Node};
use session::{Event, Link, Peer, Port, RefusalKind};

use super::{directory, log_in, small};

#[test]
fn the_logins_of_who_is_gone_keep_nobody_out() {
    let mut config = small(&directory("logins"));
    config.verify_queue_max = 3;
    let users = auth::Users::new(&auth::Config::default(), [7; auth::KEY_LEN]);
    let users = Arc::new(users.expect("the default users are right"));
    let (node, mut steps) =
        Node::start_stepped(&config, users, Arc::new(Machine)).expect("it starts");
    steps.renew_lease();
    let come = || {
        let peer = Peer {
            address: ([127, 0, 0, 1], 9).into(),
            listener: "test",
            default_vhost: "/".into(),
        };
        let link = node.attach(peer).expect("there is room");
        link.submit(&mut [log_in("guest", "guest")].into());
        link
    };
    let told = |link: &Arc<dyn Link>| {
        let mut events = Vec::new();
        let mut cx = Context::from_waker(Waker::noop());
        let _ = link.poll_events(&mut cx, &mut events);
        events
    };
    let mut flood: Vec<_> = (0..3).map(|_| come()).collect();
    let late = come();
    let refused = told(&late);
    assert!(
        matches!(&refused[..], [Event::Refused { refusal, .. }] if refusal.kind == RefusalKind::QuotaExceeded),
        "{refused:?}"
    );
    // Two of them leave at once; the one between stays where it is.
    let stays = flood.remove(1);
    drop(flood);
    let next = [come(), come()];
    assert!(
        matches!(told(&come())[..], [Event::Refused { .. }]),
        "full again"
    );
    for link in [&stays, &next[0], &next[1]] {
        assert!(told(link).is_empty());
        assert!(steps.verify());
        while !matches!(steps.commit(), journal::Step::Idle) {}
        let told = told(link);
        assert!(
            matches!(told[..], [Event::Authenticated { .. }]),
            "{told:?}"
        );
    }
    assert!(!steps.verify(), "nobody is verified who is gone");
}
