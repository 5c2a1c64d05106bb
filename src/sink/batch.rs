//! Entries for log databases over HTTP: encoded in batches of bounded size, each acknowledged on its own.
//!
//! A format (journal, Loki, OTLP, Elasticsearch) says how a batch starts, how an entry looks, how a batch ends and
//! which answer means that all of it was taken. A retry starts at the first batch that was not acknowledged.

use super::http::{self, Client, Request, Response};
use super::url::Url;
use super::{Attempt, Delivered, Entry, Failure, Meta, Outcome, Payload};
use crate::deadline::Deadline;

/// A batch is sent when it has grown to this many bytes; every receiver takes far more by default.
const BATCH_LEN: usize = 64 << 10;

/// What the entries of one report have in common.
pub struct Context<'a> {
    /// What identifies the crash.
    pub meta: &'a Meta,
    /// The machine's name.
    pub host: String,
    /// The target.
    pub url: &'a Url,
    /// Level of the last entry in the batch, for formats that group by it.
    pub level: Option<u8>,
}

/// One way to write entries.
pub struct Format {
    /// Where to post when the URL has no path.
    pub path: &'static str,
    /// Type of the body.
    pub content_type: &'static str,
    /// Starts a batch.
    pub open: fn(&mut Context<'_>, &mut Vec<u8>),
    /// Adds an entry.
    pub entry: fn(&mut Context<'_>, &Entry<'_>, &mut Vec<u8>),
    /// Ends a batch.
    pub close: fn(&mut Context<'_>, &mut Vec<u8>),
    /// Whether the answer, with a status of success, acknowledges every entry.
    pub check: fn(&Response) -> Result<(), Failure>,
}

/// Posts the entries in one format.
///
/// # Errors
/// The first batch that was not acknowledged.
pub fn send(
    format: &Format,
    url: &Url,
    payload: &Payload<'_>,
    attempt: &mut Attempt,
    deadline: Deadline,
) -> Delivered {
    let mut context = Context {
        meta: payload.meta(),
        host: payload.host(),
        url,
        level: None,
    };
    let path = http::path(url, payload, format.path);
    let mut client = Client::new(url, deadline);
    let mut post = |batch: &[u8]| {
        let response = client.request(&mut Request {
            method: "POST",
            path: &path,
            content_type: format.content_type,
            len: batch.len() as u64,
            body: &mut |out| out.write_all(batch),
        })?;
        response.success()?;
        (format.check)(&response)
    };
    let mut batch = Vec::new();
    let first = attempt.done;
    let mut next = first;
    payload.entries(&mut |entry| {
        if entry.index < first {
            return Ok(());
        }
        if batch.is_empty() {
            context.level = None;
            (format.open)(&mut context, &mut batch);
        }
        (format.entry)(&mut context, entry, &mut batch);
        next = entry.index + 1;
        if batch.len() >= BATCH_LEN {
            (format.close)(&mut context, &mut batch);
            post(&batch)?;
            batch.clear();
            attempt.done = next;
        }
        Ok(())
    })?;
    if !batch.is_empty() {
        (format.close)(&mut context, &mut batch);
        post(&batch)?;
        attempt.done = next;
    }
    Ok(Outcome::Stored)
}

/// Any status of success is enough.
pub fn any(_: &Response) -> Result<(), Failure> {
    Ok(())
}

/// The names of the levels, as syslog spells them.
pub const LEVELS: [&str; 8] = [
    "emerg", "alert", "crit", "err", "warning", "notice", "info", "debug",
];

#[cfg(test)]
pub mod tests {
    use super::super::Part;
    use super::super::payload::tests::fake;
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::time::Duration;

    /// The summary and four records as one batch.
    pub fn encode(format: &Format) -> Vec<u8> {
        let fake = fake(3);
        let payload = Payload::new(&fake, Part::Full, "");
        let url = Url::default();
        let mut context = Context {
            meta: payload.meta(),
            host: payload.host(),
            url: &url,
            level: None,
        };
        let mut batch = Vec::new();
        (format.open)(&mut context, &mut batch);
        payload
            .entries(&mut |entry| {
                (format.entry)(&mut context, entry, &mut batch);
                Ok(())
            })
            .unwrap();
        (format.close)(&mut context, &mut batch);
        batch
    }

    /// An answer of success with this body.
    #[allow(clippy::field_reassign_with_default)]
    pub fn answer(body: &str) -> Response {
        let mut response = Response::default();
        response.status = 200;
        response.body = body.into();
        response
    }

    #[test]
    fn a_retry_starts_at_the_first_batch_without_an_acknowledgement() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        // Takes two batches and closes; then takes everything.
        let server = std::thread::spawn(move || {
            let mut bodies = Vec::new();
            for most in [2, usize::MAX] {
                let (mut peer, _) = listener.accept().unwrap();
                while bodies.len() < most {
                    let mut head = Vec::new();
                    let mut byte = [0];
                    while !head.ends_with(b"\r\n\r\n") && peer.read(&mut byte).unwrap_or(0) == 1 {
                        head.push(byte[0]);
                    }
                    let head = String::from_utf8(head).unwrap();
                    let Some((_, len)) = head.split_once("Content-Length: ") else {
                        break;
                    };
                    let len: usize = len.split('\r').next().unwrap().parse().unwrap();
                    let mut body = vec![0; len];
                    peer.read_exact(&mut body).unwrap();
                    bodies.push(String::from_utf8(body).unwrap());
                    peer.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
                }
                drop(peer);
                if most == 2 {
                    drop(listener.accept().unwrap());
                }
            }
            bodies
        });
        let fake = fake(5000);
        let payload = Payload::new(&fake, Part::Log, "");
        let url = Url {
            host: "127.0.0.1".into(),
            port: Some(port),
            ..Url::default()
        };
        let mut attempt = Attempt::default();
        let soon = Deadline::after(Duration::from_secs(5));
        let format = &super::super::loki::FORMAT;
        send(format, &url, &payload, &mut attempt, soon).unwrap_err();
        let done = attempt.done;
        assert!(done > 100 && done < 5000);
        send(format, &url, &payload, &mut attempt, soon).unwrap();
        assert_eq!(attempt.done, 5001);
        let all = server.join().unwrap().concat();
        for i in [0, done - 1, done, 4999] {
            assert_eq!(all.matches(&format!("\"record {i}\"")).count(), 1);
        }
    }
}
