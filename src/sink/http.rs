//! A small HTTP/1.1 client: one connection, one request at a time, answers read with bounds.
//!
//! ```text
//! PUT /crash/node17.txt HTTP/1.1\r\n Host: ...\r\n Content-Length: 11\r\n\r\n body
//! HTTP/1.1 100 Continue\r\n\r\n          skipped
//! HTTP/1.1 201 Created\r\n Content-Length | Transfer-Encoding: chunked | until the connection ends
//! ```
//!
//! RFC 9110 and 9112. The body is written by a closure as often as needed, after its length was counted. A redirect
//! is followed only on the same server: nothing beyond the configured targets is contacted. There is no TLS.

use std::io::{self, BufWriter, Read, Write};

use super::connect::Stream;
use super::text::{Exactly, base64, line};
use super::url::Url;
use super::{Attempt, Delivered, Failure, Outcome, Payload, Reason, name};
use crate::deadline::Deadline;

/// The port of HTTP.
const PORT: u16 = 80;

/// Longest head of an answer.
const HEAD_LEN: usize = 16 << 10;

/// Longest body of which notice is taken; what follows is read and dropped, up to [`BODY_END`].
const BODY_LEN: u64 = 64 << 10;

/// Longest body that is read to its end to keep the connection.
const BODY_END: u64 = 1 << 20;

/// Redirects followed, and interim (1xx) answers skipped.
const HOPS: usize = 5;

/// A request.
pub struct Request<'a> {
    /// `PUT` or `POST`.
    pub method: &'a str,
    /// Path and query.
    pub path: &'a str,
    /// Type of the body.
    pub content_type: &'a str,
    /// Length of the body.
    pub len: u64,
    /// Writes the body.
    pub body: &'a mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
}

/// An answer.
#[derive(Debug, Default)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Where a redirect points.
    location: String,
    /// The start of the body.
    pub body: Vec<u8>,
    /// The connection can take another request.
    keep: bool,
}

impl Response {
    /// Any 2xx is success.
    ///
    /// # Errors
    /// Another status, with the start of what the server says.
    pub fn success(&self) -> Result<(), Failure> {
        if (200..300).contains(&self.status) {
            return Ok(());
        }
        let said = line(self.body.get(..self.body.len().min(300)).unwrap_or(&[]));
        // An HTML page tells nothing that the status does not.
        let said = if said.starts_with('<') { "" } else { &said };
        let gap = if said.is_empty() { "" } else { ": " };
        Err(Failure {
            why: format!("HTTP status {}{gap}{said}", self.status),
            again: matches!(self.status, 408 | 425 | 429 | 500..=599),
        })
    }
}

/// A client of one server.
pub struct Client<'a> {
    url: &'a Url,
    deadline: Deadline,
    /// The head fields that every request has.
    fields: String,
    stream: Option<Stream>,
}

impl<'a> Client<'a> {
    /// Of the URL's server; connects with the first request.
    pub fn new(url: &'a Url, deadline: Deadline) -> Self {
        let port = url.port.map(|port| format!(":{port}")).unwrap_or_default();
        let mut fields = format!(
            "Host: {}{port}\r\nUser-Agent: crashdmesg\r\nAccept: */*\r\n",
            url.bracketed()
        );
        if !url.user.is_empty() || url.password.is_some() {
            let password = url.password.as_deref().unwrap_or("");
            let both = base64(format!("{}:{password}", url.user).as_bytes());
            fields += &format!("Authorization: Basic {both}\r\n");
        }
        for (key, value) in &url.options {
            if key == "header" {
                fields += value;
                fields += "\r\n";
            }
        }
        Client {
            url,
            deadline,
            fields,
            stream: None,
        }
    }

    /// Makes a request and reads the answer, following redirects on this server.
    ///
    /// # Errors
    /// No complete answer was had. An answer with an error status is no failure here.
    pub fn request(&mut self, request: &mut Request<'_>) -> Result<Response, Failure> {
        let mut path = request.path.to_string();
        for _ in 0..HOPS {
            let response = match self.stream.take() {
                // The server may have closed a connection that rested; then a new one is made, once.
                Some(stream) => match self.exchange(stream, &path, request) {
                    Err(failure) if failure.again && !self.deadline.passed() => {
                        let stream = Stream::open(self.url, PORT, self.deadline)?;
                        self.exchange(stream, &path, request)?
                    }
                    other => other?,
                },
                None => {
                    let stream = Stream::open(self.url, PORT, self.deadline)?;
                    self.exchange(stream, &path, request)?
                }
            };
            if !matches!(response.status, 301 | 302 | 307 | 308) {
                return Ok(response);
            }
            path = self.redirected(&response.location)?;
        }
        Err(Failure::lasting("redirected too often"))
    }

    /// The path of a redirect on this server.
    fn redirected(&self, location: &str) -> Result<String, Failure> {
        let refuse = || Failure::lasting(format!("redirected to \"{location}\", not followed"));
        if location.starts_with('/') && !location.starts_with("//") {
            return Ok(location.to_string());
        }
        let rest = location.strip_prefix("http://").ok_or_else(refuse)?;
        let (authority, _) = rest.split_once('/').ok_or_else(refuse)?;
        let here = self.url.bracketed();
        let port = self.url.port.unwrap_or(PORT);
        let same = authority.eq_ignore_ascii_case(&format!("{here}:{port}"))
            || port == PORT && authority.eq_ignore_ascii_case(&here);
        if !same {
            return Err(refuse());
        }
        Ok(rest[authority.len()..].to_string())
    }

    fn exchange(
        &mut self,
        stream: Stream,
        path: &str,
        request: &mut Request<'_>,
    ) -> Result<Response, Failure> {
        let mut out = BufWriter::with_capacity(16 << 10, stream);
        let sent = self.write(&mut out, path, request);
        // What a failed write left in the buffer must not be tried again.
        let (mut stream, _) = out.into_parts();
        // A server that refuses early may close before it has read the body: its answer tells more than our failure.
        let response = match (read_response(&mut stream), sent) {
            (Ok(response), Ok(())) => response,
            (Ok(response), Err(_)) if response.status >= 300 => return Ok(response),
            (_, Err(error)) => return Err(error).reason("send"),
            (Err(error), Ok(())) => return Err(error).reason("read the answer"),
        };
        if response.keep {
            self.stream = Some(stream);
        }
        Ok(response)
    }

    fn write(
        &self,
        out: &mut BufWriter<Stream>,
        path: &str,
        request: &mut Request<'_>,
    ) -> io::Result<()> {
        write!(
            out,
            "{} {path} HTTP/1.1\r\n{}Content-Type: {}\r\nContent-Length: {}\r\n\r\n",
            request.method, self.fields, request.content_type, request.len
        )?;
        let mut body = Exactly {
            out,
            left: request.len,
        };
        (request.body)(&mut body)?;
        if body.left != 0 {
            // Never wait for an answer to a body that we did not finish.
            return Err(io::Error::other("the report became shorter"));
        }
        out.flush()
    }
}

/// Reads answers until one is final.
fn read_response(stream: &mut Stream) -> io::Result<Response> {
    for _ in 0..HOPS {
        let (response, length) = read_head(stream)?;
        match response.status {
            100..200 => continue,
            204 | 304 => return Ok(response),
            _ => return read_body(stream, response, length),
        }
    }
    Err(strange("only interim answers"))
}

fn strange(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// How the end of a body is known.
#[derive(Clone, Copy)]
enum Length {
    Known(u64),
    Chunked,
    UntilClose,
}

fn read_head(stream: &mut Stream) -> io::Result<(Response, Length)> {
    let first = stream.line(HEAD_LEN)?;
    let text = String::from_utf8_lossy(&first).into_owned();
    let mut words = text.split(' ');
    let version = words.next().unwrap_or("");
    let status = words.next().and_then(|code| code.parse().ok());
    let (true, Some(status @ 100..=599)) = (version.starts_with("HTTP/1."), status) else {
        return Err(strange("the answer is not HTTP"));
    };
    let mut response = Response {
        status,
        keep: version != "HTTP/1.0",
        ..Response::default()
    };
    let mut length = Length::UntilClose;
    let mut room = HEAD_LEN - first.len();
    loop {
        let field = stream.line(room)?;
        if field.is_empty() {
            break;
        }
        room = room.saturating_sub(field.len() + 2);
        let field = String::from_utf8_lossy(&field);
        let Some((key, value)) = field.split_once(':') else {
            continue;
        };
        let value = value.trim();
        match key.to_ascii_lowercase().as_str() {
            "content-length" if !matches!(length, Length::Chunked) => {
                let len = value.parse().map_err(|_| strange("bad Content-Length"))?;
                length = Length::Known(len);
            }
            "transfer-encoding" if value.to_ascii_lowercase().contains("chunked") => {
                length = Length::Chunked;
            }
            "connection" if value.to_ascii_lowercase().contains("close") => response.keep = false,
            "location" => response.location = line(value.as_bytes()),
            _ => {}
        }
    }
    Ok((response, length))
}

fn read_body(stream: &mut Stream, mut response: Response, length: Length) -> io::Result<Response> {
    let whole = match length {
        Length::Known(len) => read_some(stream, len, &mut response.body),
        Length::Chunked => read_chunks(stream, &mut response.body),
        Length::UntilClose => {
            response.keep = false;
            read_some(stream, u64::MAX, &mut response.body).map(|_| true)
        }
    };
    match whole {
        Ok(whole) => response.keep &= whole,
        // The status alone tells of a failure; a success that is cut short may be none.
        Err(_) if response.status >= 300 => response.keep = false,
        Err(error) => return Err(error),
    }
    Ok(response)
}

/// Reads `len` bytes, keeps the first; tells whether the connection stands at their end.
fn read_some(stream: &mut Stream, len: u64, body: &mut Vec<u8>) -> io::Result<bool> {
    let room = BODY_LEN.saturating_sub(body.len() as u64);
    let kept = Read::take(&mut *stream, len.min(room)).read_to_end(body)? as u64;
    if kept < len.min(room) {
        return if len == u64::MAX {
            Ok(false)
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        };
    }
    let rest = len - kept;
    if rest == 0 {
        return Ok(true);
    }
    let dropped = io::copy(
        &mut Read::take(&mut *stream, rest.min(BODY_END)),
        &mut io::sink(),
    )?;
    Ok(dropped == rest)
}

fn read_chunks(stream: &mut Stream, body: &mut Vec<u8>) -> io::Result<bool> {
    let mut total = 0u64;
    loop {
        let size = stream.line(1024)?;
        let size = String::from_utf8_lossy(&size);
        let digits = size.split(';').next().unwrap_or("").trim();
        let size = u64::from_str_radix(digits, 16).map_err(|_| strange("bad chunk"))?;
        total = total.saturating_add(size);
        if total > BODY_END {
            return Ok(false);
        }
        if size == 0 {
            break;
        }
        read_some(stream, size, body)?;
        if !stream.line(2)?.is_empty() {
            return Err(strange("bad chunk"));
        }
    }
    // Trailer fields, then an empty line.
    let mut room = HEAD_LEN;
    while room > 0 {
        let field = stream.line(room)?;
        if field.is_empty() {
            return Ok(true);
        }
        room = room.saturating_sub(field.len() + 2);
    }
    Ok(false)
}

/// Checks the options of an HTTP target.
///
/// # Errors
/// One line.
pub fn check(url: &Url) -> Result<(), String> {
    for (key, value) in &url.options {
        let name = value.split(':').next().unwrap_or("");
        let token = |b: u8| b.is_ascii_alphanumeric() || b"-_.!#$&'*+^`|~".contains(&b);
        if key == "header" && (!value.contains(':') || name.is_empty() || !name.bytes().all(token))
        {
            return Err(format!("option header: \"{name}\" is not NAME:VALUE"));
        }
    }
    match url.option("method") {
        None => Ok(()),
        Some(m) if m.eq_ignore_ascii_case("put") || m.eq_ignore_ascii_case("post") => Ok(()),
        Some(other) => Err(format!(
            "option method: \"{other}\" is neither put nor post"
        )),
    }
}

/// Path and query of the URL with names filled in; `default` when it has no path.
pub fn path(url: &Url, payload: &Payload<'_>, default: &str) -> String {
    let mut path = match (url.path.as_str(), default) {
        ("" | "/", default) if !default.is_empty() => default.to_string(),
        ("", _) => name::fill("/", payload.meta()),
        (path, _) => name::fill(path, payload.meta()),
    };
    if !url.query.is_empty() {
        path.push('?');
        path.push_str(&url.query);
    }
    path
}

/// `http://host/path`: the text as one object, with PUT, or POST on request.
pub fn send(url: &Url, payload: &Payload<'_>, _: &mut Attempt, deadline: Deadline) -> Delivered {
    let method = url.option("method").unwrap_or("put").to_ascii_uppercase();
    let path = path(url, payload, "");
    let mut client = Client::new(url, deadline);
    client.fields += "Connection: close\r\n";
    let response = client.request(&mut Request {
        method: &method,
        path: &path,
        content_type: "text/plain; charset=utf-8",
        len: payload.len(),
        body: &mut |out| payload.write(out),
    })?;
    response.success()?;
    Ok(Outcome::Stored)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::time::Duration;

    /// Serves one connection: reads what comes, writes `answer`, closes.
    fn served(answer: &'static [u8]) -> Result<Response, Failure> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let (mut peer, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            let _ = peer.read(&mut request);
            let _ = peer.write_all(answer);
        });
        let url = Url {
            host: "127.0.0.1".into(),
            port: Some(port),
            ..Url::default()
        };
        let mut client = Client::new(&url, Deadline::after(Duration::from_secs(2)));
        let result = client.request(&mut Request {
            method: "PUT",
            path: "/x",
            content_type: "text/plain",
            len: 3,
            body: &mut |out| out.write_all(b"abc"),
        });
        server.join().unwrap();
        result
    }

    #[test]
    fn answers_of_every_framing_are_read() {
        for answer in [
            &b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"[..],
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nA: b\r\n\r\n",
            b"HTTP/1.0 200 OK\r\n\r\nhello",
            b"HTTP/1.1 200\nConnection: close\n\nhello",
        ] {
            let response = served(answer).unwrap();
            assert_eq!((response.status, response.body.as_slice()), (200, &b"hello"[..]));
            response.success().unwrap();
        }
        assert_eq!(
            served(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap().status,
            204
        );
    }

    #[test]
    fn a_success_that_is_cut_short_is_a_failure() {
        for answer in [
            &b""[..],
            b"HTTP/1.1 200 OK\r\nContent-Le",
            b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello",
        ] {
            assert!(served(answer).unwrap_err().again);
        }
    }

    #[test]
    fn what_is_not_http_is_said_so() {
        for answer in [
            &b"SSH-2.0-OpenSSH_9.2\r\n"[..],
            b"HTTP/1.1 20 OK\r\n\r\n",
            b"HTTP/1.1 99999 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        ] {
            assert!(served(answer).is_err());
        }
    }

    #[test]
    fn the_status_decides_whether_another_attempt_makes_sense() {
        for (status, again) in [
            (400, false),
            (403, false),
            (413, false),
            (429, true),
            (500, true),
            (503, true),
        ] {
            let response = Response {
                status,
                body: b"because\n".to_vec(),
                ..Response::default()
            };
            let failure = response.success().unwrap_err();
            assert_eq!(failure.again, again, "{status}");
            assert_eq!(failure.why, format!("HTTP status {status}: because"));
        }
    }

    #[test]
    fn a_redirect_is_followed_on_the_same_server_only() {
        let url = Url {
            host: "collector".into(),
            port: Some(8080),
            ..Url::default()
        };
        let client = Client::new(&url, Deadline::after(Duration::from_secs(1)));
        assert_eq!(client.redirected("/b?c").unwrap(), "/b?c");
        assert_eq!(client.redirected("http://Collector:8080/b").unwrap(), "/b");
        for elsewhere in [
            "http://collector/b",
            "//evil/b",
            "https://collector:8080/b",
            "",
        ] {
            assert!(!client.redirected(elsewhere).unwrap_err().again);
        }
    }
}
