//! CreateQueue and SetQueueAttributes.

use std::sync::Arc;

use aws::{Answer, ApiError, Call, Input, Value};
use message::Name;
use session::{Declare, Flow, RefusalKind};

use crate::{
    asked::{Made, alter, declare, done, failed, look},
    attributes::{self, ADDRESS},
    queue, redrive,
    remove::REMEMBERED_MS,
    tags, words,
};

/// The attributes of an input, with their names as they are meant.
fn given(input: &Input) -> Vec<(String, String)> {
    let entries = input.value.map("Attributes").iter();
    entries
        .filter_map(|(name, value)| match value {
            Value::Text(text) => Some((attributes::meant(name).to_owned(), text.clone())),
            _ => None,
        })
        .collect()
}

/// A queue to be made.
struct Wanted {
    name: Name,
    made: Made,
    /// The names of the attributes that the request names: those and no others are compared (DOORS 11).
    named: Vec<String>,
}

impl Wanted {
    fn of(input: &Input) -> Result<Self, ApiError> {
        let call = &input.call;
        let given = given(input);
        let value = |name: &str| {
            let found = given.iter().find(|(known, _)| known == name);
            found.map(|(_, value)| &value[..])
        };
        let fifo = match value("FifoQueue") {
            Some(value) => attributes::wants_fifo(value, call)?,
            None => false,
        };
        let own_name = input.value.text("QueueName").unwrap_or_default();
        queue::check_new_name(own_name, fifo)?;
        let name = match value(ADDRESS) {
            None => own_name,
            Some(address) if queue::name_of_address(address) == own_name => address,
            Some(address) => {
                let wanted = queue::name_of_address(address);
                let reason = format!("QueueName must be {wanted}.");
                return Err(words::invalid_attribute_because(ADDRESS, &reason));
            }
        };
        let mut made = attributes::fresh(fifo);
        let others = given.iter().filter(|(name, _)| name != ADDRESS);
        attributes::set_all(&mut made, others, call)?;
        tags::add(&mut made, input.value.map("tags"), own_name)?;
        Ok(Self {
            name: Name::copy_from_slice(name.as_bytes()),
            made,
            named: given.into_iter().map(|(name, _)| name).collect(),
        })
    }

    /// Makes it, once its redrive policy is known to be possible.
    fn make(self, call: Arc<Call>) -> Flow<Answer> {
        let minute = if call.settings.minute_rules {
            REMEMBERED_MS
        } else {
            0
        };
        let new = Declare::NewQueue {
            name: self.name.clone(),
            unless_deleted_ms: minute,
            attributes: Box::new(self.made.attributes.clone()),
            notes: self.made.notes(),
        };
        declare(new, move |answer, _| match answer {
            Ok(()) => done(Ok(self.answer(&call))),
            Err(refusal) if refusal.kind == RefusalKind::Inequivalent => self.compare(call),
            Err(refusal) if refusal.kind == RefusalKind::InUse => failed(words::deleted_recently()),
            Err(refusal) => failed(words::refused(&refusal)),
        })
    }

    /// There is one: the same, as far as the request says?
    fn compare(self, call: Arc<Call>) -> Flow<Answer> {
        look(self.name.clone(), move |queue, _| {
            let Some(queue) = queue else {
                return failed(words::queue_exists("FifoQueue"));
            };
            let known = Made::of(&queue);
            let differs = self
                .named
                .iter()
                .find(|name| self.differs(name, &known, &call));
            match differs {
                Some(name) => failed(words::queue_exists(name)),
                None => done(Ok(self.answer(&call))),
            }
        })
    }

    fn differs(&self, name: &str, known: &Made, call: &Call) -> bool {
        if name == "RedrivePolicy" {
            // Written in another way it is the same.
            let target = |made: &Made| attributes::redrive_target(made).cloned();
            return target(known) != target(&self.made)
                || known.attributes.deliveries_max != self.made.attributes.deliveries_max;
        }
        attributes::kept(known, name, call) != attributes::kept(&self.made, name, call)
    }

    fn answer(&self, call: &Call) -> Value {
        Value::from([("QueueUrl", queue::url(call, &self.name).into())])
    }
}

/// What must be known of the target of a redrive policy before it is kept.
struct Redriven {
    target: Name,
    text: String,
    source_arn: String,
    fifo: bool,
}

impl Redriven {
    /// `None`: there is no policy.
    fn of(made: &Made, name: &Name, call: &Call) -> Option<Self> {
        Some(Self {
            target: attributes::redrive_target(made)?.clone(),
            text: attributes::kept(made, "RedrivePolicy", call)?,
            source_arn: queue::arn(call, name),
            fifo: made.attributes.fifo.is_some(),
        })
    }

    fn checked(self, then: impl FnOnce() -> Flow<Answer> + Send + 'static) -> Flow<Answer> {
        look(self.target.clone(), move |target, _| {
            let Some(target) = target else {
                return failed(redrive::no_target(&self.text));
            };
            match redrive::check_target(&target, &self.source_arn, self.fifo, &self.text) {
                Ok(()) => then(),
                Err(error) => failed(error),
            }
        })
    }
}

pub(crate) fn create(input: Input) -> Flow<Answer> {
    let wanted = match Wanted::of(&input) {
        Ok(wanted) => wanted,
        Err(error) => return failed(error),
    };
    let call = input.call;
    match Redriven::of(&wanted.made, &wanted.name, &call) {
        Some(redriven) => redriven.checked(move || wanted.make(call)),
        None => wanted.make(call),
    }
}

pub(crate) fn set_attributes(input: Input) -> Flow<Answer> {
    let name = match queue::of_input(&input) {
        Ok(name) => name,
        Err(error) => return failed(error),
    };
    let given = given(&input);
    if given.is_empty() {
        return failed(words::missing("Attributes"));
    }
    let call = input.call;
    let policy = given
        .iter()
        .find(|(name, _)| name == "RedrivePolicy")
        .map(|(_, policy)| policy.clone());
    let (target, fifo_name) = (policy, name.clone());
    let altering = {
        let call = Arc::clone(&call);
        move || {
            alter(name, move |_, made, _| {
                attributes::set_all(made, given.iter(), &call)
            })
        }
    };
    let Some(policy) = target.filter(|policy| !policy.is_empty()) else {
        return altering();
    };
    // The type of this queue decides which targets it may have.
    look(fifo_name.clone(), move |queue, _| {
        let Some(queue) = queue else {
            return failed(words::no_queue());
        };
        let mut made = Made::of(&queue);
        if let Err(error) = attributes::set(&mut made, "RedrivePolicy", &policy, &call) {
            return failed(error);
        }
        match Redriven::of(&made, &fifo_name, &call) {
            Some(redriven) => redriven.checked(altering),
            None => altering(),
        }
    })
}
