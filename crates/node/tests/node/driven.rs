//! A node that is driven by who asks, over a disk in memory.

use journal::{MemVfs, Step};
use node::{StartError, Steps};

use super::{full::Small, *};

pub(super) const DIR: &str = "/driven";

/// See the module. One connection is there.
pub(super) struct Driven {
    pub(super) node: Node,
    pub(super) steps: Steps,
    pub(super) link: Arc<dyn Link>,
    /// The machine, whose time stands still.
    pub(super) host: Arc<Small>,
    /// The last batch that is committed.
    pub(super) committed: u64,
}

impl Driven {
    pub(super) fn config() -> Config {
        small(Path::new(DIR))
    }

    pub(super) fn start(disk: MemVfs, config: &Config) -> Result<Self, StartError> {
        let users = auth::Users::new(&auth::Config::default(), [7; auth::KEY_LEN]);
        let users = Arc::new(users.expect("the default users are right"));
        let host = Arc::new(Small::new(disk));
        let (node, steps) = Node::start_stepped(config, users, Arc::clone(&host) as Arc<dyn Host>)?;
        let link = node.attach(peer()).expect("there is room");
        let committed = steps.mark().batch;
        let mut driven = Self {
            node,
            steps,
            link,
            host,
            committed,
        };
        driven.submit([log_in("guest", "guest")]);
        assert!(matches!(driven.events()[..], [Event::Authenticated { .. }]));
        Ok(driven)
    }

    /// Another connection in the place of the one that is there.
    pub(super) fn connect(&mut self) {
        self.link = self.node.attach(peer()).expect("there is room");
        self.submit([log_in("guest", "guest")]);
        assert!(matches!(self.events()[..], [Event::Authenticated { .. }]));
    }

    pub(super) fn submit(&self, commands: impl IntoIterator<Item = Command>) {
        let left = self.link.submit(&mut commands.into_iter().collect());
        assert!(left == Submitted::All);
    }

    /// Everything that comes of what was asked so far.
    pub(super) fn events(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        let mut cx = Context::from_waker(Waker::noop());
        let mut idle = 0;
        while idle < 3 {
            idle += 1;
            while self.steps.verify() {}
            while let Step::Committed(batch) = self.steps.commit() {
                self.committed = batch;
            }
            self.steps.keep();
            while self.steps.read() {}
            if self.link.poll_events(&mut cx, &mut events).is_ready() {
                self.link.drained();
                idle = 0;
            }
        }
        events
    }

    /// The one event that comes of a command.
    pub(super) fn ask(&mut self, command: Command) -> Event {
        self.submit([command]);
        let mut events = self.events();
        assert_eq!(events.len(), 1, "{events:?}");
        events.remove(0)
    }
}

fn peer() -> Peer {
    Peer {
        address: ([127, 0, 0, 1], 9).into(),
        listener: "test",
        default_vhost: "/".into(),
    }
}
