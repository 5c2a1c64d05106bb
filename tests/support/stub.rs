//! Servers made of one closure each, for what real servers do not do: strict ones, broken ones, slow ones.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// Serves every connection of a fresh port with a thread of its own, until the test program ends.
pub fn serve(each: impl Fn(TcpStream) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let each = Arc::new(each);
    thread::spawn(move || {
        for peer in listener.incoming().flatten() {
            let each = each.clone();
            let limit = Some(Duration::from_secs(60));
            peer.set_read_timeout(limit).unwrap();
            peer.set_write_timeout(limit).unwrap();
            thread::spawn(move || each(peer));
        }
    });
    port
}

/// A request as the server read it.
#[derive(Clone, Debug, Default)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    /// A header's value; there must not be two of it.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(key, _)| key == name);
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} twice");
        value
    }
}

/// Reads a request by the letter of RFC 9112; `None` at the end of the connection.
pub fn read_request(peer: &mut impl BufRead) -> Option<Request> {
    let mut line = || {
        let mut line = String::new();
        peer.read_line(&mut line).ok()?;
        if line.is_empty() {
            return None;
        }
        let text = line.strip_suffix("\r\n").expect("a line ends with CR LF");
        assert!(!text.contains(['\r', '\0']), "{text:?}");
        Some(text.to_owned())
    };
    let first = line()?;
    let words: Vec<&str> = first.split(' ').collect();
    let [method, path, "HTTP/1.1"] = words[..] else {
        panic!("{first}");
    };
    let mut request = Request {
        method: method.into(),
        path: path.into(),
        ..Request::default()
    };
    loop {
        let field = line().expect("the head ends with an empty line");
        if field.is_empty() {
            break;
        }
        let (key, value) = field.split_once(": ").expect("NAME: VALUE");
        assert!(key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'));
        request.headers.push((key.to_lowercase(), value.into()));
    }
    assert!(request.header("host").is_some());
    let len = request.header("content-length").unwrap().parse().unwrap();
    request.body = vec![0; len];
    peer.read_exact(&mut request.body).ok()?;
    Some(request)
}

/// A strict HTTP server: keeps every request, answers what `answer` says (status line and more, or a whole answer).
pub fn http(
    answer: impl Fn(&Request) -> String + Send + Sync + 'static,
) -> (u16, Arc<Mutex<Vec<Request>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let keep = seen.clone();
    let port = serve(move |peer| {
        let mut input = BufReader::new(peer.try_clone().unwrap());
        let mut peer = peer;
        while let Some(request) = read_request(&mut input) {
            let text = answer(&request);
            keep.lock().unwrap().push(request);
            if peer.write_all(text.as_bytes()).is_err() {
                break;
            }
        }
    });
    (port, seen)
}

/// A whole answer with this status and body.
pub fn answer(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Reads until the peer ends, however it does.
pub fn drain(peer: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    let _ = peer.read_to_end(&mut all);
    all
}
