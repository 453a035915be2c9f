//! The loop of the delivery to endpoints, without a core: what becomes of it when a task of its own ends without a word.

use message::Timestamp;
use session::{Link, Peer};

use super::*;

/// A core that takes nobody.
struct Nobody;

impl Port for Nobody {
    fn attach(&self, _: Peer) -> Option<Arc<dyn Link>> {
        None
    }

    fn now(&self) -> Timestamp {
        Timestamp(1)
    }
}

fn work() -> Work {
    let settings = Sns::default();
    Work::new(Arc::new(Shared {
        links: Links {
            port: Arc::new(Nobody),
            open: tokio::sync::Mutex::default(),
        },
        gate: None,
        secret: Secret([0; 32]),
        signer: Arc::new(Signing::default()).signer(),
        client: Client::new(&settings).expect("the defaults are right"),
        smtp: Smtp::new(&settings),
        settings,
        counters: Arc::default(),
        unasked: LogRate::new(),
    }))
}

async fn panics(work: &mut Work, has: Has) -> Result<(), Lost> {
    work.spawn(has, async { panic!("a defect") });
    let ended = work.tasks.join_next_with_id().await;
    work.ended(ended.expect("one was begun"))
}

#[tokio::test]
async fn a_task_that_panics_gives_back_what_it_has() {
    let mut work = work();
    (work.held, work.held_bytes) = (3, 111);
    assert!(panics(&mut work, Has::Message(100)).await.is_ok());
    assert!(panics(&mut work, Has::Nothing).await.is_ok());
    assert_eq!((work.held, work.held_bytes), (2, 11));
    let place = Has::Place("lane".to_owned(), 10);
    assert!(panics(&mut work, place).await.is_ok());
    assert_eq!((work.held, work.held_bytes), (1, 1));
    // Without its pull there would be nothing more.
    assert!(panics(&mut work, Has::Pull).await.is_err());
    assert!(work.has.is_empty());
}
