//! Other programs as sinks: the text goes to standard input, exit status 0 means stored.
//!
//! `exec:PROGRAM ARGUMENTS` starts a program without a shell, `ssh://` an OpenSSH or Dropbear client. Standard input and error
//! are socket pairs, as those have time limits and pipes do not; a program that is still there at the deadline is
//! killed with its whole process group.

use std::io::{self, BufWriter, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use super::text::line;
use super::url::Url;
use super::{Delivered, Failure, Outcome, Payload, Reason, name};
use crate::deadline::Deadline;
use crate::sys::process::kill_group;

/// Most of what a program says that is repeated.
const SAID_LEN: usize = 300;

/// How often a silent program is looked after.
const LOOK: Duration = Duration::from_millis(20);

/// A socket with a deadline.
struct Timed {
    socket: UnixStream,
    deadline: Deadline,
}

impl Write for Timed {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.socket
            .set_write_timeout(Some(self.deadline.timeout()?))?;
        match self.socket.write(buf) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(io::ErrorKind::TimedOut.into())
            }
            other => other,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Runs a program with the text as its input.
///
/// # Errors
/// It cannot be started, does not end in time, ends with another status than 0 or before it has read everything.
pub fn run(mut command: Command, payload: &Payload<'_>, deadline: Deadline) -> Delivered {
    let program = command.get_program().to_string_lossy().into_owned();
    let step = format!("run {program}");
    let (input, theirs) = UnixStream::pair().reason(&step)?;
    let (said, stderr) = UnixStream::pair().reason(&step)?;
    command
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::from(OwnedFd::from(stderr)))
        .process_group(0);
    let mut child = command.spawn().reason(&step)?;
    // Our copies of its ends: without them gone its end would not be noticed.
    drop(command);
    let mut out = BufWriter::new(Timed {
        socket: input,
        deadline,
    });
    let sent = payload.write(&mut out).and_then(|()| out.flush());
    let (input, _) = out.into_parts();
    if sent.is_ok() {
        let _ = input.socket.shutdown(Shutdown::Write);
    } else {
        drop(input);
    }
    let (status, said) = end(&mut child, said, deadline).reason(&step)?;
    let gap = if said.is_empty() { "" } else { ": " };
    match (status, sent) {
        (None, _) => Err(Failure::passing(format!(
            "{program} was still running at the deadline{gap}{said}"
        ))),
        (Some(status), _) if !status.success() => {
            Err(Failure::passing(format!("{program}: {status}{gap}{said}")))
        }
        (_, Err(error)) => Err(error).reason(&format!("{program} did not read everything")),
        _ => Ok(Outcome::Stored),
    }
}

/// Waits for the end of a program and keeps the last that it says.
fn end(
    child: &mut Child,
    mut said: UnixStream,
    deadline: Deadline,
) -> io::Result<(Option<ExitStatus>, String)> {
    let mut text = Vec::new();
    let mut piece = [0; 512];
    let status = loop {
        let status = child.try_wait()?;
        said.set_read_timeout(Some(LOOK))?;
        match said.read(&mut piece) {
            // Its other end is closed: nothing more to hear, only to wait for.
            Ok(0) if status.is_none() => deadline.sleep(Duration::from_millis(5)),
            Ok(len) => {
                text.extend(&piece[..len]);
                text.drain(..text.len().saturating_sub(SAID_LEN));
                if len > 0 {
                    continue;
                }
            }
            Err(_) => {}
        }
        if status.is_some() {
            break status;
        }
        if deadline.passed() {
            let _ = kill_group(child.id());
            let _ = child.kill();
            child.wait()?;
            break None;
        }
    };
    Ok((status, line(&text)))
}

/// Splits a command line at spaces; quotes of either kind keep them.
///
/// # Errors
/// There is no program, or a quote is not closed.
fn words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in text.chars() {
        match quote {
            Some(q) if c == q => quote = None,
            None if c == '"' || c == '\'' => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            None if c == ' ' => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    match (quote, words.first()) {
        (Some(_), _) => Err("a quote is not closed".into()),
        (None, None) => Err("exec: needs a program".into()),
        _ => Ok(words),
    }
}

/// Checks the command line.
///
/// # Errors
/// One line.
pub fn check(url: &Url) -> Result<(), String> {
    words(&url.path).map(drop)
}

/// `exec:/usr/bin/curl -T - ftp://...`, without a shell. Names are filled in word by word.
pub fn exec(url: &Url, payload: &Payload<'_>, deadline: Deadline) -> Delivered {
    let words = words(&url.path).map_err(Failure::lasting)?;
    let meta = payload.meta();
    let mut words = words.iter().map(|word| name::expanded(word, meta));
    let mut command = Command::new(words.next().unwrap_or_default());
    let time = meta.crash_time.map(|t| t.to_string()).unwrap_or_default();
    command
        .args(words)
        .env("CRASHDMESG_HOST", name::safe(&payload.host()))
        .env("CRASHDMESG_TIME", time);
    for (key, value) in [
        ("CRASHDMESG_SIGNATURE", &meta.signature),
        ("CRASHDMESG_REPORT_ID", &meta.report_id),
        ("CRASHDMESG_KIND", &meta.kind),
        ("CRASHDMESG_PANIC", &meta.panic),
    ] {
        command.env(key, line(value.as_bytes()).replace('\0', ""));
    }
    run(command, payload, deadline)
}

#[cfg(test)]
mod tests {
    use super::super::Part;
    use super::super::payload::tests::fake;
    use super::*;
    use std::time::Instant;

    fn try_exec(command: &str, seconds: f32) -> Delivered {
        let url = Url {
            path: command.into(),
            ..Url::default()
        };
        let fake = fake(20_000);
        let payload = Payload::new(&fake, Part::Full, "");
        exec(
            &url,
            &payload,
            Deadline::after(Duration::from_secs_f32(seconds)),
        )
    }

    #[test]
    fn a_program_that_takes_everything_and_succeeds_has_stored_it() {
        let file = std::env::temp_dir().join(format!("crashdmesg-exec-{}", std::process::id()));
        let command = format!(
            "sh -c 'cat >{}; test \"$CRASHDMESG_HOST\" = node17 -a \"$0\" = node17' %h",
            file.display()
        );
        assert_eq!(try_exec(&command, 10.0).unwrap(), Outcome::Stored);
        assert!(std::fs::metadata(&file).unwrap().len() > 400_000);
        std::fs::remove_file(file).unwrap();
    }

    #[test]
    fn every_way_to_fail_is_told() {
        for (command, why) in [
            (
                "sh -c 'cat >/dev/null; echo no room >&2; exit 3'",
                "exit status: 3: no room",
            ),
            ("/nonexistent/program", "No such file"),
            ("true", "did not read everything"),
            ("sh -c 'exec 0<&-; kill -9 $$'", "signal: 9"),
        ] {
            let failure = try_exec(command, 10.0).unwrap_err();
            assert!(failure.why.contains(why), "{}", failure.why);
        }
    }

    #[test]
    fn a_program_that_hangs_is_killed_with_its_children() {
        for command in ["sleep 60", "sh -c 'cat >/dev/null; sleep 61 & wait'"] {
            let start = Instant::now();
            let failure = try_exec(command, 0.3).unwrap_err();
            assert!(failure.why.contains("deadline"), "{}", failure.why);
            assert!(start.elapsed() < Duration::from_secs(3));
        }
    }

    #[test]
    fn words_are_split_at_spaces_outside_of_quotes() {
        assert_eq!(
            words("a  'b c' d\"e f\"g ''").unwrap(),
            ["a", "b c", "de fg", ""]
        );
        assert!(words(" ").is_err());
        assert!(words("a 'b").is_err());
    }
}
