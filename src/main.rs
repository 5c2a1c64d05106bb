//! crashdmesg: the shell around the core. See the library's documentation for how it works.

#![deny(unsafe_code)]

use std::process::ExitCode;

mod cli;
// Wired in by the command line; until then only their tests use them.
#[allow(dead_code)]
mod config;
#[allow(dead_code)]
mod deadline;
mod extract;
mod file;
#[allow(dead_code)]
mod sink;
#[allow(dead_code, unsafe_code)]
mod sys;

use extract::Exit;

fn main() -> ExitCode {
    let exit = match cli::parse(std::env::args_os().skip(1)) {
        Ok(cli::Command::Print(text)) => {
            print!("{text}");
            Exit::Done
        }
        Ok(cli::Command::Read(options)) => extract::run(&options).unwrap_or_else(|failure| {
            eprintln!("crashdmesg: {}", failure.message);
            failure.exit
        }),
        Err(message) => {
            eprintln!("crashdmesg: {message} (--help lists the options)");
            Exit::Usage
        }
    };
    ExitCode::from(exit as u8)
}
