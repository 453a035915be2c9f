//! GetQueueUrl, GetQueueAttributes, ListQueues, ListDeadLetterSourceQueues.

use std::{collections::BTreeSet, sync::Arc};

use aws::{Answer, ApiError, Call, Input, Value, seal};
use bytes::Bytes;
use message::Name;
use session::{Command, Event, Flow, List, Listed};

use crate::{
    asked::{LANE, Made, TOKEN, done, failed, look_at, unexpected},
    attributes, queue, words,
};

/// Most names of one page.
const PAGE_MAX: usize = 1000;

pub(crate) fn url(input: Input) -> Flow<Answer> {
    let name = input.value.text("QueueName").unwrap_or_default();
    let owner = input.value.text("QueueOwnerAWSAccountId");
    if name.is_empty() || owner.is_some_and(|owner| !queue::is_own_account(&input.call, owner)) {
        return failed(words::no_queue());
    }
    let name = Name::copy_from_slice(name.as_bytes());
    look_at(name.clone(), move |_, _| {
        let url = queue::url(&input.call, &name);
        done(Ok(Value::from([("QueueUrl", url.into())])))
    })
}

pub(crate) fn attributes(input: Input) -> Flow<Answer> {
    let name = match queue::of_input(&input) {
        Ok(name) => name,
        Err(error) => return failed(error),
    };
    look_at(name, move |queue, _| {
        let made = Made::of(&queue);
        let names = match wanted(&input) {
            Ok(names) => names,
            Err(error) => return failed(error),
        };
        let shown = names.into_iter().filter_map(|name| {
            let text = attributes::show(&queue, &made, name, &input.call)?;
            Some((name.into(), Value::from(text)))
        });
        let shown: Vec<_> = shown.collect();
        if shown.is_empty() {
            return done(Ok(Value::empty()));
        }
        done(Ok(Value::from([("Attributes", Value::Map(shown))])))
    })
}

/// The names of the attributes that are asked for, in their order here, each once.
fn wanted(input: &Input) -> Result<Vec<&'static str>, ApiError> {
    let mut names = BTreeSet::new();
    for name in input.value.list("AttributeNames") {
        let Value::Text(name) = name else { continue };
        let name = attributes::meant(name);
        if name == "All" {
            names.extend(attributes::SHOWN);
        } else if attributes::SHOWN.contains(&name) {
            names.insert(name);
        } else {
            return Err(words::unknown_attribute(name));
        }
    }
    let shown = attributes::SHOWN.iter().copied();
    Ok(shown.filter(|name| names.contains(name)).collect())
}

/// A list in pages. The core lists more than SQS shows (DOORS 8: legal names only), so that a page may take several questions.
struct Paging {
    call: Arc<Call>,
    /// The member of the answer.
    member: &'static str,
    /// The answer has it though it is empty.
    always: bool,
    prefix: Bytes,
    feeding: Option<Name>,
    /// Most names, if the request says so: only then there is a token.
    limit: Option<usize>,
    found: Vec<Name>,
}

impl Paging {
    fn purpose(&self) -> [&[u8]; 4] {
        let feeding = self.feeding.as_deref().unwrap_or_default();
        [
            b"sqs list",
            self.call.vhost_name.as_bytes(),
            &self.prefix,
            feeding,
        ]
    }

    /// Reads limit and token, and lists.
    fn start(mut self, input: &Input) -> Flow<Answer> {
        self.limit = match input.value.int("MaxResults") {
            None => None,
            Some(max) => match usize::try_from(max) {
                Ok(max) if (1..=PAGE_MAX).contains(&max) => Some(max),
                _ => {
                    return failed(words::invalid(
                        "MaxResults",
                        max,
                        "MaxResults must be an integer between 1 and 1000.",
                    ));
                }
            },
        };
        let after = match input.value.text("NextToken") {
            None => None,
            Some(token) => match seal::open(&self.call.secret, &self.purpose(), token) {
                Some(name) => Some(Name::from(name)),
                None => {
                    return failed(words::invalid_parameter("Invalid or expired next token."));
                }
            },
        };
        self.ask(after)
    }

    fn ask(mut self, after: Option<Name>) -> Flow<Answer> {
        let limit = self.limit.unwrap_or(PAGE_MAX);
        let list = List {
            of: Listed::Queues,
            prefix: self.prefix.clone(),
            feeding: self.feeding.clone(),
            after,
            limit: (limit - self.found.len()) as u32,
        };
        let command = Command::List {
            token: TOKEN,
            lane: LANE,
            list: Box::new(list),
        };
        Flow::ask(command, move |event, _| {
            let Event::Listed { names, more, .. } = event else {
                return failed(unexpected(&event));
            };
            let last = names.last().cloned();
            // The last may stand for names that were only looked at, when a list of targets' sources goes on.
            let sure = |name: &Name| {
                let legal = std::str::from_utf8(name).is_ok_and(queue::is_legal_name);
                legal && (self.feeding.is_none() || !more || Some(name) != last.as_ref())
            };
            let legal: Vec<Name> = names.iter().filter(|name| sure(name)).cloned().collect();
            let put_off = match &last {
                Some(name) if more && self.feeding.is_some() => {
                    std::str::from_utf8(name).is_ok_and(queue::is_legal_name)
                }
                _ => false,
            };
            self.found.extend(legal);
            match last {
                Some(last) if put_off => self.confirm(last),
                Some(last) if more && self.found.len() < limit => self.ask(Some(last)),
                last => self.answer(last.filter(|_| more)),
            }
        })
    }

    /// Whether the last name of a list belongs to it: that queue is looked at.
    fn confirm(mut self, name: Name) -> Flow<Answer> {
        crate::asked::look(name.clone(), move |queue, _| {
            let feeds = queue.is_some_and(|queue| {
                let made = Made::of(&queue);
                attributes::redrive_target(&made) == self.feeding.as_ref()
            });
            if feeds {
                self.found.push(name.clone());
            }
            if self.found.len() < self.limit.unwrap_or(PAGE_MAX) {
                self.ask(Some(name))
            } else {
                self.answer(Some(name))
            }
        })
    }

    fn answer(self, after: Option<Name>) -> Flow<Answer> {
        let urls = self
            .found
            .iter()
            .map(|name| queue::url(&self.call, name).into());
        let urls: Vec<Value> = urls.collect();
        let mut members = Vec::new();
        if self.always || !urls.is_empty() {
            members.push((self.member.into(), Value::List(urls)));
        }
        if let (Some(after), Some(_)) = (after, self.limit) {
            let token = seal::seal(&self.call.secret, &self.purpose(), &after);
            members.push(("NextToken".into(), token.into()));
        }
        done(Ok(Value::Map(members)))
    }
}

pub(crate) fn list(input: Input) -> Flow<Answer> {
    let prefix = input.value.text("QueueNamePrefix").unwrap_or_default();
    let paging = Paging {
        call: Arc::clone(&input.call),
        member: "QueueUrls",
        always: false,
        prefix: Bytes::copy_from_slice(prefix.as_bytes()),
        feeding: None,
        limit: None,
        found: Vec::new(),
    };
    paging.start(&input)
}

pub(crate) fn dead_letter_sources(input: Input) -> Flow<Answer> {
    let name = match queue::of_input(&input) {
        Ok(name) => name,
        Err(error) => return failed(error),
    };
    look_at(name.clone(), move |_, _| {
        let paging = Paging {
            call: Arc::clone(&input.call),
            member: "queueUrls",
            always: true,
            prefix: Bytes::new(),
            feeding: Some(name),
            limit: None,
            found: Vec::new(),
        };
        paging.start(&input)
    })
}
