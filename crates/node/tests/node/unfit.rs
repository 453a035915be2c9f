//! A history with a record in it that does not fit.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use node::{Host as _, Machine, Node};

use super::{HANGS, directory, small, start};

/// It has its checksum, and is a record: it is refused with its place, not met with a panic that ends the process.
#[test]
fn a_record_that_does_not_fit_is_refused_with_its_place() {
    let dir = directory("unfit");
    start(small(&dir)).shutdown();
    let vfs = Arc::new(journal::RealVfs);
    let now_ms = Machine.clocks().wall_ms;
    let opened = journal::open(vfs, &dir, small(&dir).journal, now_ms, [7; 16]);
    let opened = opened.expect("it opens");
    drop(opened.replay);
    let journal = opened.journal;
    // A time; then the virtual host "x", which says that it is number 7: there are none between.
    let record = [31, 1, 1, 1, 1, b'x', 1, 2, 1, 7, 0];
    journal.stage().push(3, &record, None);
    let until = Instant::now() + HANGS;
    while journal.committed() < journal.newest() || journal.newest() == 0 {
        assert!(Instant::now() < until, "it is not committed");
        thread::sleep(Duration::from_millis(5));
    }
    journal.shutdown();
    drop(journal);
    let users = auth::Users::new(&auth::Config::default(), [7; auth::KEY_LEN]);
    let users = Arc::new(users.expect("the default users are right"));
    let refused = Node::start(small(&dir), users).err().expect("refused");
    let said = refused.to_string();
    assert!(
        said.contains("does not fit what is in front of it"),
        "{said}"
    );
}
