//! Phone numbers: SMS attributes, who has opted out, origination numbers, and the sandbox.
//!
//! All of it is in the notes of one topic object of ours, [`names::SMS`]:
//!
//! | note | what |
//! |---|---|
//! | `attribute:NAME` | an SMS attribute; all of them are passed on to the operator's gateway with each message |
//! | `out:NUMBER` | the number has opted out: the gateway has said so |
//! | `in:NUMBER` | it has opted in again, whatever the operator's list says |
//! | `box:NUMBER` | a number of the sandbox: `Verified`, or the code that it was sent and until when that is good |
//!
//! The account is never in the sandbox: there is no quota here that leaving it would raise.

use std::sync::Arc;

use aws::{ApiError, Call, Input, Sender, SignatureVersion, Value, digest};
use bytes::Bytes;
use message::{Address, BodyKind, Levels, Message};
use session::{Notes, RefusalKind, TopicInfo, TopicTo};

use crate::{
    control::{self, Control, OURS},
    faults::{self, invalid, plain},
    names,
    steps::{
        Run, alter_topic, done, fail, note, notes_under, nothing, refused_as, set_note, topic,
    },
    subscriptions::off,
    topics::texts,
};

const ATTRIBUTE: &str = "attribute:";
const OUT: &str = "out:";
const IN: &str = "in:";
const BOX: &str = "box:";
const VERIFIED: &str = "Verified";
/// Most notes together.
const NOTES_MAX: usize = 10_000;
/// How long the code of a sandbox number is good.
const CODE_MS: u64 = 24 * 3600 * 1000;

fn object() -> Bytes {
    Bytes::from_static(names::SMS.as_bytes())
}

/// Makes the object.
pub(crate) fn create() -> TopicTo {
    TopicTo::Create {
        address: Levels::collect([OURS, "sms"]).expect("two short levels"),
        fifo: None,
        notes: Notes::new(),
    }
}

fn absent() -> ApiError {
    faults::internal("what is known of phone numbers is gone")
}

/// What is known, nothing if nothing was ever said.
fn look(
    call: &Arc<Call>,
    operation: &'static str,
    then: impl FnOnce(Notes) -> Run + Send + 'static,
) -> Run {
    let refused = refused_as(call, operation, names::SMS, absent);
    topic(object(), TopicTo::Inspect, move |found| match found {
        Ok(found) => then(found.notes),
        Err(refusal) if refusal.kind == RefusalKind::NotFound => then(Notes::new()),
        Err(refusal) => fail(refused(&refusal)),
    })
}

/// Changes what is known.
fn change(
    call: &Arc<Call>,
    operation: &'static str,
    change: impl Fn(&mut Notes) -> Result<(), ApiError> + Send + 'static,
    then: impl FnOnce() -> Run + Send + 'static,
) -> Run {
    let refused = refused_as(call, operation, names::SMS, absent);
    topic(object(), create(), move |made| {
        if let Err(refusal) = made
            && refusal.kind != RefusalKind::Inequivalent
        {
            return fail(refused(&refusal));
        }
        let altered = move |found: &TopicInfo| {
            let mut notes = found.notes.clone();
            change(&mut notes)?;
            if notes.len() > NOTES_MAX && notes.len() > found.notes.len() {
                return Err(
                    ApiError::sender("Throttled", "too many phone numbers").with_status(429)
                );
            }
            Ok((notes != found.notes).then_some((None, notes)))
        };
        alter_topic(object(), refused, altered, then)
    })
}

/// `SetSMSAttributes`.
pub(crate) fn set_attributes(input: Input) -> Run {
    let Input { call, value } = input;
    let attributes = texts(value.map("attributes"));
    if let Some((_, kind)) = attributes.iter().find(|(name, _)| name == "DefaultSMSType")
        && !matches!(&kind[..], "Promotional" | "Transactional")
    {
        return fail(invalid("DefaultSMSType is invalid"));
    }
    let change_to = move |notes: &mut Notes| {
        for (name, value) in &attributes {
            set_note(notes, &format!("{ATTRIBUTE}{name}"), value);
        }
        Ok(())
    };
    change(&call, "SetSMSAttributes", change_to, nothing)
}

/// `GetSMSAttributes`.
pub(crate) fn get_attributes(input: Input) -> Run {
    let Input { call, value } = input;
    look(&call, "GetSMSAttributes", move |notes| {
        let wanted = value.list("attributes");
        let is_wanted =
            |name: &str| wanted.is_empty() || wanted.iter().any(|it| *it == Value::from(name));
        let shown = attributes(&notes)
            .into_iter()
            .filter(|(name, _)| is_wanted(name))
            .map(|(name, value)| (name.into(), Value::from(value)));
        done([("attributes", Value::Map(shown.collect()))].into())
    })
}

/// The SMS attributes among notes.
pub(crate) fn attributes(notes: &Notes) -> Vec<(String, String)> {
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    notes_under(notes, ATTRIBUTE).map(owned).collect()
}

/// A number in the one form that is compared.
fn plain_number(number: &str) -> String {
    format!("+{}", number.trim_start_matches('+'))
}

fn is_out(notes: &Notes, call: &Call, number: &str) -> bool {
    let number = plain_number(number);
    note(notes, &format!("{OUT}{number}")).is_some()
        || note(notes, &format!("{IN}{number}")).is_none()
            && call.settings.sns.opted_out.contains(&number)
}

/// Notes that a number has opted out.
pub(crate) fn opt_out(notes: &mut Notes, number: &str) {
    let number = plain_number(number);
    set_note(notes, &format!("{IN}{number}"), "");
    if notes.len() < NOTES_MAX {
        set_note(notes, &format!("{OUT}{number}"), "1");
    }
}

/// Goes on unless a number has opted out.
pub(crate) fn unless_opted_out(
    call: &Arc<Call>,
    number: String,
    then: impl FnOnce() -> Run + Send + 'static,
) -> Run {
    let caller = Arc::clone(call);
    look(call, "Publish", move |notes| {
        if is_out(&notes, &caller, &number) {
            return fail(invalid(
                "PhoneNumber Reason: the phone number has opted out",
            ));
        }
        then()
    })
}

/// The phone number of an input, if it is one.
fn number_of(value: &Value) -> Result<String, ApiError> {
    let number = value.text("phoneNumber").unwrap_or_default();
    let digits = number.strip_prefix('+').unwrap_or(number);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(plain(
            "Invalid parameter: PhoneNumber Reason: input incorrectly formatted",
        ));
    }
    Ok(plain_number(number))
}

/// `CheckIfPhoneNumberIsOptedOut`.
pub(crate) fn is_opted_out(input: Input) -> Run {
    let Input { call, value } = input;
    let number = match number_of(&value) {
        Ok(number) => number,
        Err(error) => return fail(error),
    };
    let caller = Arc::clone(&call);
    look(&call, "CheckIfPhoneNumberIsOptedOut", move |notes| {
        let out = is_out(&notes, &caller, &number);
        done([("isOptedOut", Value::from(out))].into())
    })
}

/// `ListPhoneNumbersOptedOut`, a hundred at a time.
pub(crate) fn list_opted_out(input: Input) -> Run {
    let Input { call, value } = input;
    let after = value.text("nextToken").unwrap_or_default().to_owned();
    let caller = Arc::clone(&call);
    look(&call, "ListPhoneNumbersOptedOut", move |notes| {
        let listed = caller.settings.sns.opted_out.iter().cloned();
        let told = notes_under(&notes, OUT).map(|(number, _)| number.to_owned());
        let mut numbers: Vec<String> = listed
            .chain(told)
            .filter(|number| is_out(&notes, &caller, number) && *number > after)
            .collect();
        numbers.sort();
        numbers.dedup();
        let more = numbers.len() > 100;
        numbers.truncate(100);
        let next = numbers.last().filter(|_| more).cloned();
        let numbers = numbers.into_iter().map(Value::from).collect();
        done(
            [
                ("phoneNumbers", Value::List(numbers)),
                ("nextToken", next.into()),
            ]
            .into(),
        )
    })
}

/// `OptInPhoneNumber`.
pub(crate) fn opt_in(input: Input) -> Run {
    let Input { call, value } = input;
    let number = match number_of(&value) {
        Ok(number) => number,
        Err(error) => return fail(error),
    };
    let listed = call.settings.sns.opted_out.contains(&number);
    let change_to = move |notes: &mut Notes| {
        set_note(notes, &format!("{OUT}{number}"), "");
        if listed {
            set_note(notes, &format!("{IN}{number}"), "1");
        }
        Ok(())
    };
    change(&call, "OptInPhoneNumber", change_to, nothing)
}

/// `ListOriginationNumbers`: there are none, the gateway has its own.
pub(crate) fn list_origination(_: Input) -> Run {
    done([("PhoneNumbers", Value::List(Vec::new()))].into())
}

/// `GetSMSSandboxAccountStatus`.
pub(crate) fn sandbox_status(_: Input) -> Run {
    done([("IsInSandbox", Value::from(false))].into())
}

/// `CreateSMSSandboxPhoneNumber`: sends a code to the number.
pub(crate) fn sandbox_create(input: Input) -> Run {
    let Input { call, value } = input;
    if !call.settings.sns.sms {
        return fail(off("PhoneNumber Reason: sms", "sns.sms"));
    }
    let number = value.text("PhoneNumber").unwrap_or_default();
    if !names::is_phone_number(number) {
        return fail(invalid("PhoneNumber Reason: not a phone number"));
    }
    let number = plain_number(number);
    let chance = u64::from_be_bytes(call.random[..8].try_into().expect("eight bytes of 32"));
    let code = format!("{:06}", chance % 1_000_000);
    let until = call.now.plus_ms(CODE_MS).0;
    let kept = (format!("{BOX}{number}"), format!("{until}:{code}"));
    let change_to = move |notes: &mut Notes| {
        set_note(notes, &kept.0, &kept.1);
        Ok(())
    };
    let caller = Arc::clone(&call);
    change(&call, "CreateSMSSandboxPhoneNumber", change_to, move || {
        let text = format!("Your verification code is {code}");
        let mut message = Message::new(
            Address::topic(caller.vhost, Levels::none()),
            Bytes::from(text.into_bytes()),
        );
        message.body_kind = BodyKind::Text;
        let mut id = [0; 16];
        id.copy_from_slice(&caller.random[8..24]);
        aws::Attributes::default().put_with(
            &mut message,
            Sender::of(&caller.user),
            digest::random_uuid(id),
            &aws::Extras {
                bodies: Vec::new(),
                signature: SignatureVersion::default(),
            },
        );
        let sms = Control::Sms { number };
        control::send_message(&caller, "CreateSMSSandboxPhoneNumber", sms, message, |()| {
            nothing()
        })
    })
}

fn no_number() -> ApiError {
    ApiError::sender("ResourceNotFound", "the phone number is not in the sandbox").with_status(404)
}

/// `VerifySMSSandboxPhoneNumber`.
pub(crate) fn sandbox_verify(input: Input) -> Run {
    let Input { call, value } = input;
    let number = plain_number(value.text("PhoneNumber").unwrap_or_default());
    let code = value.text("OneTimePassword").unwrap_or_default().to_owned();
    let now = call.now;
    let change_to = move |notes: &mut Notes| {
        let name = format!("{BOX}{number}");
        let known = note(notes, &name).ok_or_else(no_number)?;
        if known == VERIFIED {
            return Ok(());
        }
        let good = known.split_once(':').is_some_and(|(until, known)| {
            known == code && until.parse::<u64>().is_ok_and(|until| now.0 <= until)
        });
        if !good {
            return Err(ApiError::sender(
                "VerificationException",
                "the one-time password is wrong, or too old",
            ));
        }
        set_note(notes, &name, VERIFIED);
        Ok(())
    };
    change(&call, "VerifySMSSandboxPhoneNumber", change_to, nothing)
}

/// `DeleteSMSSandboxPhoneNumber`.
pub(crate) fn sandbox_delete(input: Input) -> Run {
    let Input { call, value } = input;
    let number = plain_number(value.text("PhoneNumber").unwrap_or_default());
    let change_to = move |notes: &mut Notes| {
        let name = format!("{BOX}{number}");
        note(notes, &name).ok_or_else(no_number)?;
        set_note(notes, &name, "");
        Ok(())
    };
    change(&call, "DeleteSMSSandboxPhoneNumber", change_to, nothing)
}

/// `ListSMSSandboxPhoneNumbers`.
pub(crate) fn sandbox_list(input: Input) -> Run {
    let Input { call, value } = input;
    let most = value.int("MaxResults").unwrap_or(100) as usize;
    let after = value.text("NextToken").unwrap_or_default().to_owned();
    look(&call, "ListSMSSandboxPhoneNumbers", move |notes| {
        let mut numbers: Vec<(&str, &str)> = notes_under(&notes, BOX)
            .filter(|(number, _)| *number > &after[..])
            .collect();
        let more = numbers.len() > most;
        numbers.truncate(most);
        let next = numbers.last().filter(|_| more);
        let next = next.map(|(number, _)| (*number).to_owned());
        let shown = numbers.iter().map(|(number, state)| {
            let status = if *state == VERIFIED {
                VERIFIED
            } else {
                "Pending"
            };
            Value::from([
                ("PhoneNumber", Value::from(*number)),
                ("Status", Value::from(status)),
            ])
        });
        let shown = Value::List(shown.collect());
        done([("PhoneNumbers", shown), ("NextToken", next.into())].into())
    })
}
