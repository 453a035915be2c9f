//! What delivery to endpoints counts.

use std::{
    fmt::Write as _,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use sns::deliver::{Dropped, Send, Verdict};

/// Counted since the start.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    delivered: [AtomicU64; 4],
    retried: AtomicU64,
    given_up: AtomicU64,
    dead_lettered: AtomicU64,
    lost: AtomicU64,
    forged: AtomicU64,
    gone: AtomicU64,
    put_back: AtomicU64,
    held: AtomicU64,
}

/// Labels of `delivered`, in their order.
const KINDS: [&str; 4] = ["http", "email", "sms", "push"];

impl Counters {
    pub(super) fn attempted(&self, send: &Send, verdict: Verdict) {
        let kind = match send {
            Send::Http { .. } => 0,
            Send::Mail(_) => 1,
            Send::Sms(_) => 2,
            Send::Push(_) => 3,
        };
        let counter = match verdict {
            Verdict::Done => &self.delivered[kind],
            Verdict::Again(_) => &self.retried,
            Verdict::Dead | Verdict::Gone => &self.given_up,
        };
        counter.fetch_add(1, Relaxed);
    }

    pub(super) fn dropped(&self, why: Dropped) {
        let counter = match why {
            Dropped::Forged => &self.forged,
            Dropped::Gone | Dropped::OptedOut => &self.gone,
            Dropped::Confirmed | Dropped::Lapsed(_) => return,
        };
        counter.fetch_add(1, Relaxed);
    }

    pub(super) fn dead_lettered(&self) {
        self.dead_lettered.fetch_add(1, Relaxed);
    }

    pub(super) fn lost(&self) {
        self.lost.fetch_add(1, Relaxed);
    }

    pub(super) fn put_back(&self) {
        self.put_back.fetch_add(1, Relaxed);
    }

    pub(super) fn held(&self, messages: usize) {
        self.held.store(messages as u64, Relaxed);
    }

    /// In the exposition format of Prometheus.
    pub(crate) fn write(&self, text: &mut String) {
        let mut head = |name: &str, kind: &str, help: &str| {
            // Writing to a string does not fail.
            let _ = writeln!(
                text,
                "# HELP bascule_{name} {help}\n# TYPE bascule_{name} {kind}"
            );
            name.to_owned()
        };
        let name = head(
            "sns_delivered_total",
            "counter",
            "Messages that endpoints of SNS have taken.",
        );
        for (kind, counter) in KINDS.iter().zip(&self.delivered) {
            let _ = writeln!(
                text,
                "bascule_{name}{{protocol=\"{kind}\"}} {}",
                counter.load(Relaxed)
            );
        }
        let rows = [
            (
                "sns_retried_total",
                "counter",
                "Attempts at endpoints of SNS that are made again.",
                &self.retried,
            ),
            (
                "sns_given_up_total",
                "counter",
                "Messages that endpoints of SNS did not take in all their attempts.",
                &self.given_up,
            ),
            (
                "sns_dead_lettered_total",
                "counter",
                "Of those, messages that a dead-letter queue has taken.",
                &self.dead_lettered,
            ),
            (
                "sns_lost_total",
                "counter",
                "Of those, messages that no dead-letter queue has taken.",
                &self.lost,
            ),
            (
                "sns_unasked_total",
                "counter",
                "Messages for endpoints that no operation of SNS had asked for.",
                &self.forged,
            ),
            (
                "sns_gone_total",
                "counter",
                "Messages whose subscription or endpoint was gone or disabled when they were to be sent.",
                &self.gone,
            ),
            (
                "sns_put_back_total",
                "counter",
                "Messages put back because too many waited for the same endpoint.",
                &self.put_back,
            ),
            (
                "sns_in_delivery",
                "gauge",
                "Messages on their way to endpoints of SNS.",
                &self.held,
            ),
        ];
        for (name, kind, help, counter) in rows {
            let _ = writeln!(
                text,
                "# HELP bascule_{name} {help}\n# TYPE bascule_{name} {kind}\nbascule_{name} {}",
                counter.load(Relaxed)
            );
        }
    }
}
