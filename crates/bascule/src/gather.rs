//! Has what several connections hand in at about the same time written together.
//!
//! Whoever hands something in first, while the journal has nothing to do, wakes a task that goes to the end of its thread's queue: those
//! who are ready hand in theirs before it. With 64 connections that send signed requests, a write is shared by twelve of them in place
//! of six; where nobody else is ready it is the next thing that the thread does.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
};

use node::Node;
use tokio::sync::Notify;

/// Gathers for a node until it is dropped.
pub(crate) struct Gathering {
    node: Arc<Node>,
    asked: Arc<Notify>,
}

impl Gathering {
    pub(crate) fn new(node: &Arc<Node>) -> Self {
        let asked = Arc::new(Notify::new());
        let wakes = Arc::clone(&asked);
        node.gather_by(Some(Arc::new(move || {
            // A task that a thread wakes that runs none is at the end of another queue, of which it knows nothing.
            let in_task = tokio::task::try_id().is_some();
            if in_task {
                wakes.notify_one();
            }
            in_task
        })));
        Self {
            node: Arc::clone(node),
            asked,
        }
    }

    pub(crate) async fn run(self) {
        loop {
            self.asked.notified().await;
            behind_who_is_ready().await;
            self.node.write_gathered();
        }
    }
}

impl Drop for Gathering {
    fn drop(&mut self) {
        self.node.gather_by(None);
    }
}

/// Goes to the end of the thread's queue. `tokio::task::yield_now` would come back before it, after a look at the sockets.
async fn behind_who_is_ready() {
    let mut was_there = false;
    let to_the_end = |cx: &mut Context<'_>| {
        if std::mem::replace(&mut was_there, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    };
    poll_fn(to_the_end).await;
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[tokio::test]
    async fn who_is_ready_comes_first() {
        let order = Arc::new(Mutex::new(Vec::new()));
        let note = |what: &'static str| {
            let order = Arc::clone(&order);
            move || order.lock().expect("no one panics").push(what)
        };
        let (ready, behind, new) = (note("ready"), note("behind"), note("new"));
        let last = tokio::spawn(async move {
            let ready = tokio::spawn(async move { ready() });
            behind_who_is_ready().await;
            let new = tokio::spawn(async move { new() });
            behind();
            ready.await.and(new.await)
        });
        last.await.expect("it ends").expect("they end");
        let order = order.lock().expect("no one panics");
        assert_eq!(*order, ["ready", "behind", "new"]);
    }
}
