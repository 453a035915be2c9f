//! A history with a record in it that does not fit.

use std::{
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use node::{Host as _, Machine, Node, Pair, StartError};
use session::{Active, Role};

use super::{HANGS, directory, small, start};

const SAID: &str = ", kind 3, does not fit what is in front of it";

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + HANGS;
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The journal that a node has left, held by no node.
fn left_by_a_node(dir: &Path) -> journal::Journal {
    start(small(dir)).shutdown();
    let vfs = Arc::new(journal::RealVfs);
    let now_ms = Machine.clocks().wall_ms;
    let opened = journal::open(vfs, dir, small(dir).journal, now_ms, [7; 16]);
    opened.expect("it opens").journal
}

/// It has its checksum, and is a record.
fn put_what_does_not_fit(journal: &journal::Journal) {
    // A time; then the virtual host "x", which says that it is number 7: there are none between.
    let record = [31, 1, 1, 1, 1, b'x', 1, 2, 1, 7, 0];
    journal.stage().push(3, &record, None);
    until("it is committed", || {
        journal.committed() == journal.newest() && journal.newest() > 0
    });
}

fn users() -> Arc<auth::Users> {
    let users = auth::Users::new(&auth::Config::default(), [7; auth::KEY_LEN]);
    Arc::new(users.expect("the default users are right"))
}

#[test]
fn a_record_that_does_not_fit_is_refused_with_its_place() {
    let dir = directory("unfit");
    let journal = left_by_a_node(&dir);
    put_what_does_not_fit(&journal);
    journal.shutdown();
    drop(journal);
    let refused = Node::start(small(&dir), users()).err().expect("refused");
    assert!(matches!(refused, StartError::Unfit { .. }), "{refused}");
    assert!(refused.to_string().contains(SAID), "{refused}");
}

/// Whether it comes while a standby follows, or is there already.
#[test]
fn a_standby_that_meets_a_record_that_does_not_fit_ends_and_says_which() {
    let dir = directory("unfit-standby");
    let journal = left_by_a_node(&dir);
    let pair = Pair::new(small(&dir), users(), Active::default());
    let changing = {
        let pair = Arc::clone(&pair);
        thread::spawn(move || pair.change(|| ()))
    };
    until("it follows", || pair.cluster().role == Role::Standby);
    put_what_does_not_fit(&journal);
    let refused = changing.join().expect("it does not panic").err();
    let later = Pair::new(small(&dir), users(), Active::default());
    for refused in [refused, later.change(|| ()).err()] {
        let refused = refused.expect("refused");
        assert!(matches!(refused, StartError::Unfit { .. }), "{refused}");
        assert!(refused.to_string().contains(SAID), "{refused}");
    }
    journal.shutdown();
}
