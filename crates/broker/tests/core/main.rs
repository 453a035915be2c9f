//! The core against its rules, a naive model, and its own journal.

mod clients;
mod dead_letters;
mod declarations;
mod empty;
mod gate;
mod history;
mod inspect;
mod moves;
mod naive_sqs;
mod pulls;
mod queues;
mod readers;
mod receives;
mod retained;
mod rig;
mod sqs_history;
mod stream_doors;
mod stream_files;
mod stream_growth;
mod stream_history;
mod streams;
mod subscription_limits;
mod subscriptions;
mod topic_history;
mod topics;
mod transactions;
