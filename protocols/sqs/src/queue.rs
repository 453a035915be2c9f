//! Names, URLs and ARNs of queues.
//!
//! A queue's URL is `BASE/ACCOUNT/NAME`; in requests any host will do, `queue` for the account, and the name alone (DOORS 7: the
//! account chooses the virtual host). Queues whose names the alphabet of SQS has not, which other doors have made or CreateQueue with `bascule.address`, are
//! reached by such a URL too, with `%XX` for what a URL cannot hold, but are not listed (DOORS 8).

use aws::{ApiError, Call, Input};
use message::Name;

use crate::words;

/// How the names of FIFO queues end.
pub(crate) const FIFO_SUFFIX: &str = ".fifo";
/// What stands for the account in URLs of ElasticMQ, which has none: `http://HOST/queue/NAME`.
const NO_ACCOUNT: &str = "queue";
/// The longest name.
const NAME_LEN_MAX: usize = 80;

fn is_plain_name(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    !name.is_empty() && name.bytes().all(legal)
}

/// Whether SQS knows such names.
pub(crate) fn is_legal_name(name: &str) -> bool {
    name.len() <= NAME_LEN_MAX && is_plain_name(name.strip_suffix(FIFO_SUFFIX).unwrap_or(name))
}

/// Whether a name is that of a FIFO queue.
pub(crate) fn is_fifo_name(name: &[u8]) -> bool {
    name.ends_with(FIFO_SUFFIX.as_bytes())
}

/// The name that CreateQueue is given.
pub(crate) fn check_new_name(name: &str, fifo: bool) -> Result<(), ApiError> {
    let legal = is_legal_name(name);
    if fifo && !(legal && name.ends_with(FIFO_SUFFIX)) {
        return Err(words::invalid_parameter(
            "The name of a FIFO queue can only include alphanumeric characters, hyphens, or underscores, must end with .fifo suffix \
             and be 1 to 80 in length",
        ));
    }
    if !(fifo || legal && is_plain_name(name)) {
        return Err(words::invalid_parameter(
            "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length",
        ));
    }
    Ok(())
}

/// What SQS shows of an address that its alphabet is too small for: everything else is a hyphen.
pub(crate) fn name_of_address(address: &str) -> String {
    let (stem, suffix) = match address.strip_suffix(FIFO_SUFFIX) {
        Some(stem) => (stem, FIFO_SUFFIX),
        None => (address, ""),
    };
    let legal = |c: char| {
        if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') {
            c
        } else {
            '-'
        }
    };
    let stem: String = stem.chars().map(legal).collect();
    stem + suffix
}

/// The URL of a queue.
pub(crate) fn url(call: &Call, name: &[u8]) -> String {
    let mut url = format!("{}/{}/", call.base_url, call.account);
    for byte in name {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                url.push(char::from(*byte));
            }
            other => url.push_str(&format!("%{other:02X}")),
        }
    }
    url
}

/// The ARN of a queue.
pub(crate) fn arn(call: &Call, name: &[u8]) -> String {
    call.arn("sqs", &String::from_utf8_lossy(name))
}

/// The queue that an ARN names, if it is one of the call's account and region, or of others that are the same virtual host.
pub(crate) fn of_arn(call: &Call, arn: &str) -> Option<Name> {
    let rest = arn.strip_prefix("arn:aws:sqs:")?;
    let (region, rest) = rest.split_once(':')?;
    let (account, name) = rest.split_once(':')?;
    let here = account == &call.account[..] && region == &call.region[..];
    (!name.is_empty() && (here || is_same_place(call, account, region)))
        .then(|| Name::copy_from_slice(name.as_bytes()))
}

/// Whether account and region are the caller's virtual host.
fn is_same_place(call: &Call, account: &str, region: &str) -> bool {
    (call.vhost_of)(call, account, region).is_some_and(|vhost| vhost == call.vhost_name)
}

/// Whether the queues of an account are those of the call. A link reads and writes in one virtual host: a call about another account's
/// queue, which its policy has let in, is of that account (`guard.rs`).
pub(crate) fn is_own_account(call: &Call, account: &str) -> bool {
    account == &call.account[..] || is_same_place(call, account, &call.region)
}

/// The queue that a request is for: by its `QueueUrl`, else by its path.
pub(crate) fn of_input(input: &Input) -> Result<Name, ApiError> {
    let call = &input.call;
    let url = match input.value.text("QueueUrl") {
        Some(url) => url,
        None => match call.path.trim_matches('/') {
            "" => return Err(words::missing("QueueUrl")),
            path => path,
        },
    };
    of_url(call, url).ok_or_else(words::no_queue)
}

fn of_url(call: &Call, url: &str) -> Option<Name> {
    let (account, name) = parts(url)?;
    let own = account.is_none_or(|it| it == NO_ACCOUNT || is_own_account(call, it));
    let name = unescaped(name)?;
    (own && !name.is_empty()).then(|| Name::from(name))
}

/// The account that a URL or a path names.
pub(crate) fn account_of(url: &str) -> Option<&str> {
    parts(url)?.0
}

/// What a URL, or a path, has for the account, and what for the name.
fn parts(url: &str) -> Option<(Option<&str>, &str)> {
    // Asked several times of every request: byte by byte, which for texts of this length costs a fraction of what patterns do.
    let bytes = url.as_bytes();
    let path = match bytes.windows(3).position(|three| three == b"://") {
        Some(at) => {
            let slash = bytes[at + 3..].iter().position(|byte| *byte == b'/')?;
            &url[at + 3 + slash + 1..]
        }
        None => url,
    };
    let end = path.bytes().position(|byte| matches!(byte, b'?' | b'#'));
    let mut path = &path[..end.unwrap_or(path.len())];
    while let Some(rest) = path.strip_suffix('/') {
        path = rest;
    }
    while let Some(rest) = path.strip_prefix('/') {
        path = rest;
    }
    let (before, name) = last_part(path);
    Some((before.map(|before| last_part(before).1), name))
}

/// What stands before the last slash, and what behind it.
fn last_part(path: &str) -> (Option<&str>, &str) {
    match path.bytes().rposition(|byte| byte == b'/') {
        Some(at) => (Some(&path[..at]), &path[at + 1..]),
        None => (None, path),
    }
}

/// The bytes of a part of a URL. `None`: a `%` without two digits behind it.
fn unescaped(text: &str) -> Option<Vec<u8>> {
    if !text.bytes().any(|byte| byte == b'%') {
        return Some(text.as_bytes().to_vec());
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        let (high, low) = (digit()?, digit()?);
        out.push((high << 4 | low) as u8);
    }
    Some(out)
}
