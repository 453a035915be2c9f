//! Has what several connections hand in at about the same time written together.
//!
//! Where several have lately handed in little at a time, whoever hands in something first, while the journal has nothing to do, wakes a task
//! that goes to the end of its thread's queue: those who are ready there hand in theirs before it. With 64 connections that send signed
//! requests, a write is shared by twelve of them in place of six.

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
            // What a thread wakes that runs no tasks waits in another queue, however long that is. One that blocks has an id too; none stages.
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
    use crate::serve::POLLS_A_LOOK;

    #[test]
    fn who_is_ready_comes_first() {
        // As the server's, with one thread: no other one takes what is ready.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .event_interval(POLLS_A_LOOK)
            .build()
            .expect("threads start");
        let order = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&order);
        let last = runtime.spawn(async move {
            let note = |number: usize| told.lock().expect("no one panics").push(number);
            let ready = (0..12).map(|number| {
                let told = Arc::clone(&told);
                tokio::spawn(async move { told.lock().expect("no one panics").push(number) })
            });
            let ready: Vec<_> = ready.collect();
            behind_who_is_ready().await;
            note(12);
            for task in ready {
                task.await.expect("it ends");
            }
        });
        runtime.block_on(last).expect("it ends");
        let order = order.lock().expect("no one panics");
        assert_eq!(order.last(), Some(&12), "{order:?}");
        assert_eq!(order.len(), 13);
    }
}
