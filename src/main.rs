//! crashdmesg: the shell around the core. See the library's documentation for how it works.

#![deny(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

mod check;
mod cli;
mod config;
mod deadline;
mod extract;
mod file;
mod init;
mod net;
mod pipe;
mod print;
mod progress;
mod redacted;
mod rehearse;
mod report;
mod saved;
mod sink;
mod sources;
#[allow(unsafe_code)]
mod sys;

use extract::{Exit, Failure, with_dump, with_vmcore};

fn main() -> ExitCode {
    if init::is_init() {
        init::run();
    }
    if let Some(code) = init::step(std::env::args_os().skip(1)) {
        return ExitCode::from(code);
    }
    let exit = match cli::parse(std::env::args_os().skip(1)) {
        Ok(cli::Command::Print(text)) => {
            print!("{text}");
            Exit::Done
        }
        Ok(cli::Command::Read(options)) if options.show == cli::Show::Identity => {
            or_say(with_vmcore(&options, |path, vmcore| {
                print::print_identity(path, vmcore, &options)
            }))
        }
        Ok(cli::Command::Read(options)) => {
            or_say(with_dump(&options, |dump| print::print(dump, &options)))
        }
        Ok(cli::Command::Send(options, config)) => {
            let mut say = |line: &str| eprintln!("crashdmesg: {line}");
            if config.network == Some(true) {
                init::start_network(&config, &mut say);
            }
            or_say(with_dump(&options, |dump| {
                report::send(dump, &config, &mut say)
            }))
        }
        Ok(cli::Command::Ship(paths, config)) => {
            let mut say = |line: &str| eprintln!("crashdmesg: {line}");
            or_say(saved::ship(&paths, &config, &mut say))
        }
        Ok(cli::Command::CheckConfig(path)) => check_config(&path),
        Ok(cli::Command::Rehearse(dump, config)) => {
            let mut say = |line: &str| eprintln!("crashdmesg: {line}");
            or_say(match dump {
                None => rehearse::live(&config, &mut say),
                Some(options) => {
                    with_dump(&options, |dump| rehearse::of_dump(dump, &config, &mut say))
                }
            })
        }
        Ok(cli::Command::Check) => return ExitCode::from(check::run(&root())),
        Ok(cli::Command::Crashkernel) => {
            println!("{}", check::crashkernel(&root()));
            Exit::Done
        }
        Err(message) => {
            eprintln!("crashdmesg: {message} (--help lists the options)");
            Exit::Usage
        }
    };
    ExitCode::from(exit as u8)
}

/// Where the machine's files are; the tests have machines of their own.
fn root() -> PathBuf {
    std::env::var_os("CRASHDMESG_ROOT").map_or_else(|| "/".into(), PathBuf::from)
}

/// How the program ends; a failure is said first.
fn or_say(result: Result<Exit, Failure>) -> Exit {
    result.unwrap_or_else(|failure| {
        eprintln!("crashdmesg: {}", failure.message);
        failure.exit
    })
}

/// Prints every mistake in a configuration file, one a line.
fn check_config(path: &Path) -> Exit {
    let mut settings = config::Settings::default();
    if let Err(error) = settings.read_file(path) {
        eprintln!("crashdmesg: {}: {error}", path.display());
        return Exit::Unreadable;
    }
    for issue in settings.issues() {
        eprintln!("crashdmesg: {}: {issue}", path.display());
    }
    // Each line may be right, and a target still lack what another key would say.
    let plan = sink::delivery::Plan::new(&settings.config());
    if let Err(why) = &plan {
        eprintln!("crashdmesg: {}: {why}", path.display());
    }
    if settings.issues().is_empty() && plan.is_ok() {
        Exit::Done
    } else {
        Exit::Usage
    }
}
