//! Dialogues with the operations: a request in, what is answered, over a naive core in virtual time.

mod consumers;
mod core;
mod guard;
mod records;
mod shards;
mod streams;

use aws::{Answer, Value};
use serde_json::{Value as Json, json};

use core::Core;

/// An input from JSON. `Data` is bytes, members whose names end in `Timestamp` are times in ms.
fn input(json: &Json) -> Value {
    named("", json)
}

fn named(name: &str, json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(flag) => Value::Bool(*flag),
        Json::Number(number) if name.ends_with("Timestamp") => {
            Value::Time(message::Timestamp(number.as_u64().expect("a time")))
        }
        Json::Number(number) => Value::Int(number.as_i64().expect("an integer")),
        Json::String(text) if name == "Data" => Value::Blob(text.clone().into()),
        Json::String(text) => Value::Text(text.clone()),
        Json::Array(list) => Value::List(list.iter().map(input).collect()),
        Json::Object(members) => Value::Map(
            members
                .iter()
                .map(|(name, value)| (name.clone().into(), named(name, value)))
                .collect(),
        ),
    }
}

/// An output as JSON: bytes as text, times in ms, absent members left out.
fn output(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Bool(flag) => json!(flag),
        Value::Int(int) => json!(int),
        Value::Float(float) => json!(float),
        Value::Text(text) => json!(text),
        Value::Blob(blob) => json!(String::from_utf8_lossy(blob)),
        Value::Time(time) => json!(time.0),
        Value::List(list) => Json::Array(list.iter().map(output).collect()),
        Value::Map(members) => members
            .iter()
            .filter(|(_, value)| *value != Value::Null)
            .map(|(name, value)| (name.to_string(), output(value)))
            .collect(),
        Value::Rows(rows) => output(&rows.list()),
    }
}

impl Core {
    /// What an operation answers.
    fn call(&mut self, operation: &str, json: Json) -> Json {
        match self.only(operation, &json) {
            Answer::Output(value) => output(&value),
            other => panic!("{operation} {json}: {other:?}"),
        }
    }

    /// The code and the message that an operation is refused with.
    fn refusal(&mut self, operation: &str, json: Json) -> (String, String) {
        match self.only(operation, &json) {
            Answer::Error(error) => (error.code.into_owned(), error.message.into_owned()),
            other => panic!("{operation} {json}: {other:?}"),
        }
    }

    fn only(&mut self, operation: &str, json: &Json) -> Answer {
        let mut answers = self.answers(operation, input(json));
        assert_eq!(answers.len(), 1, "{operation} {json}: {answers:?}");
        answers.remove(0)
    }

    /// Makes a stream.
    fn create(&mut self, name: &str, shards: u32) {
        self.call(
            "CreateStream",
            json!({"StreamName": name, "ShardCount": shards}),
        );
    }

    fn put(&mut self, stream: &str, key: &str, data: &str) -> String {
        let put = self.call(
            "PutRecord",
            json!({"StreamName": stream, "PartitionKey": key, "Data": data}),
        );
        text(&put["SequenceNumber"])
    }

    fn iterator(&mut self, stream: &str, shard: &str, mut more: Json) -> String {
        more["StreamName"] = json!(stream);
        more["ShardId"] = json!(shard);
        text(&self.call("GetShardIterator", more)["ShardIterator"])
    }

    fn read(&mut self, iterator: &str) -> Json {
        self.call("GetRecords", json!({"ShardIterator": iterator}))
    }
}

fn text(json: &Json) -> String {
    json.as_str().unwrap_or_else(|| panic!("{json}")).to_owned()
}

fn data(records: &Json) -> Vec<String> {
    let records = records["Records"].as_array().expect("records");
    records.iter().map(|record| text(&record["Data"])).collect()
}

fn error(code: &str, message: &str) -> (String, String) {
    (code.to_owned(), message.to_owned())
}

#[test]
fn what_is_missing_is_named_from_the_outside_in() {
    let operation = &kinesis::SERVICE.operations[0];
    for (member, shown) in [
        ("StreamName", "streamName"),
        ("Records.2.PartitionKey", "records.2.member.partitionKey"),
        ("StartingPosition.Type", "startingPosition.type"),
    ] {
        let refused = (kinesis::SERVICE.missing)(operation, member);
        assert_eq!(refused.code, "ValidationException");
        assert_eq!(
            refused.message,
            format!(
                "1 validation error detected: Value null at '{shown}' failed to satisfy constraint: Member must not be null"
            )
        );
    }
}

const ZERO: &str = "shardId-000000000000";
