//! The command line.

use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crashdmesg::limits::VMCOREINFO_LEN;
use crashdmesg::render::log::{Style, TimeFormat};
use crashdmesg::render::{FACILITIES, LEVELS};
use crashdmesg::sysmap::SystemMap;

use crate::config::{CONFIG_FILE, Config, KEYS, Origin, Settings};
use crate::file::FileAt;

/// What is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Show {
    /// The report, then the log.
    #[default]
    Report,
    /// The log alone.
    Log,
    /// The report alone.
    Summary,
    /// `OSRELEASE`.
    OsRelease,
    /// `BUILD-ID`.
    BuildId,
    /// The text of VMCOREINFO.
    VmcoreInfo,
    /// What kind of dump it is.
    Identity,
}

/// How records are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// As lines.
    #[default]
    Text,
    /// As one JSON document.
    Json,
    /// As one JSON object a line.
    JsonLines,
}

/// Which records are shown; an empty mask shows all.
#[derive(Clone, Copy, Debug, Default)]
pub struct Filter {
    /// A bit per level.
    pub levels: u8,
    /// A bit per facility.
    pub facilities: u32,
}

/// Everything that the command line says.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The dump, or the parts of one.
    pub dumps: Vec<PathBuf>,
    /// VMCOREINFO from a file, over what the dump has.
    pub vmcoreinfo: Option<Vec<u8>>,
    /// The kernel's symbols, for dumps without VMCOREINFO.
    pub system_map: Option<SystemMap>,
    /// Bytes that are kept of a dump that comes through a pipe.
    pub pipe_memory: Option<u64>,
    /// Where the output goes, `None` for stdout.
    pub output: Option<PathBuf>,
    /// What is printed.
    pub show: Show,
    /// How records are written.
    pub format: Format,
    /// Which of them.
    pub filter: Filter,
    /// How lines look.
    pub style: Style,
    /// Pseudonyms in place of addresses and secrets.
    pub redact: bool,
    /// Colours: `None` for on a terminal only.
    pub color: Option<bool>,
}

/// What the command line asks for.
#[derive(Clone, Debug)]
pub enum Command {
    /// To print what is in a dump.
    Read(Box<Options>),
    /// To deliver the report of a dump to the targets of a configuration.
    Send(Box<Options>, Box<Config>),
    /// To check a configuration file.
    CheckConfig(PathBuf),
    /// To send a marked report without a crash; of a dump, if one is named.
    Rehearse(Option<Box<Options>>, Box<Config>),
    /// To check this machine.
    Check,
    /// To say how much memory to reserve.
    Crashkernel,
    /// To deliver reports that were kept.
    Ship(Vec<PathBuf>, Box<Config>),
    /// To print this and be done.
    Print(String),
}

/// The name with the version.
pub const VERSION: &str = concat!("crashdmesg ", env!("CARGO_PKG_VERSION"));

const HELP: &str = "\
Usage: crashdmesg [OPTION]... [DUMP]...
Print the reason and the kernel log of a crash. DUMP is a kernel crash dump, or the
parts of a split one, or - for a pipe; by default /proc/vmcore.

What is printed (default: the report, then the log):
      --log               the log alone: [seconds.micros] text
      --summary           the report alone
      --osrelease  --build-id  --vmcoreinfo
                          only that
      --identify          what kind of dump it is; with --json as an object
      --redact            pseudonyms for kernel, IP and hardware addresses; no secrets
  -o, --output FILE       to FILE (mode 0600) instead of stdout; - is stdout

How the dump is read:
      --vmcoreinfo=FILE   with this VMCOREINFO (from a dump of the same boot)
      --system-map FILE   when it has none: the kernel's System.map or vmlinux
      --pipe-memory MIB   keep at most so much of a pipe (1024, or half of what is free)

The log, as dmesg(1) has it:
  -r, --raw               <N> in front, as the kernel's reader has it
  -x, --decode            facility and level by name
  -l, --level LIST        only these levels: emerg alert crit err warn notice info debug;
                          LEVEL+ and more severe, +LEVEL and less severe
  -f, --facility LIST     only these facilities: kern user mail daemon ...
  -k, --kernel            only the kernel's own messages   -u, --userspace  only others
      --caller            who logged: [T123] a task, [C0] a CPU
  -T, --ctime             wall clock time (UTC)    -t, --notime  no time
  -d, --show-delta        with the time since the record before
  -e, --reltime           short wall clock time and differences
      --time-format FORMAT  ctime, iso, delta, reltime, notime, raw
  -J, --json              JSON as of dmesg --json  --json-lines  one object a line
  -L, --color[=WHEN]      auto, always, never

Sending the report, and as init of a capture kernel: --send URL and other keys
      --ship-saved        DUMP is a file, directory or partition with reports that file:
                          or block: kept: deliver those not delivered yet
      --help-config       the keys of the configuration
      --config FILE       read them from there   --check-config FILE  what is wrong in one

Before a crash:
      --check             would a panic of this machine end in a report? Each finding
                          with its fix; status 0 yes, 1 with warnings, 2 no
      --rehearse [DUMP]   send a marked report to every target now (of this kernel's log)
      --crashkernel       print the crashkernel= that this machine needs

  -h, --help              this help                -V, --version

Exit status: 0 all printed, 1 the dump cannot be read, 2 wrong usage, 3 not a dump or
no log in it, 4 printed, but part of the log is damaged or missing, 5 not delivered.
";

/// Reads the arguments, the program's name left out.
///
/// # Errors
/// One line that says which argument is wrong.
pub fn parse(args: impl Iterator<Item = OsString>) -> Result<Command, String> {
    let mut options = Options::default();
    let mut settings = Settings::default();
    let mut rehearse = false;
    let mut ship = false;
    let mut args = Args {
        args,
        pending: None,
        only_operands: false,
    };
    while let Some(arg) = args.next_arg()? {
        match arg {
            Arg::Operand(path) => options.dumps.push(path.into()),
            // Alone it means yes, as an option should.
            Arg::Option(name) if name == "--redact" => {
                let value = args.optional_text()?;
                let value = if value.is_empty() { "yes" } else { &value };
                settings.set("redact", value, Origin::CommandLine);
            }
            Arg::Option(name) if let Some(key) = config_key(&name) => {
                settings.set(key, &args.text(&name)?, Origin::CommandLine);
            }
            Arg::Option(name) if name == "--check-config" => {
                return Ok(Command::CheckConfig(args.value(&name)?.into()));
            }
            Arg::Option(name) if name == "--config" => {
                let path = PathBuf::from(args.value(&name)?);
                read_config(&mut settings, &path)?;
            }
            Arg::Option(name) if name == "--check" => return Ok(Command::Check),
            Arg::Option(name) if name == "--crashkernel" => return Ok(Command::Crashkernel),
            Arg::Option(name) if name == "--rehearse" => rehearse = true,
            Arg::Option(name) if name == "--ship-saved" => ship = true,
            Arg::Option(name) => {
                if let Some(text) = apply(&mut options, &name, &mut args)? {
                    return Ok(Command::Print(text));
                }
            }
        }
        args.no_value_left()?;
    }
    if rehearse {
        return rehearsal(options, settings);
    }
    if ship && options.dumps.is_empty() {
        return Err("--ship-saved needs the file, directory or partition of a report".into());
    }
    if options.dumps.is_empty() {
        options.dumps.push("/proc/vmcore".into());
    }
    if let Some(issue) = settings.issues().first() {
        return Err(format!("--{issue}"));
    }
    let config = settings.config();
    options.redact = config.redact;
    let is_local = config.send.is_empty() && config.fallback.is_empty();
    if ship && is_local {
        return Err("--ship-saved needs --send".into());
    }
    if ship {
        return Ok(Command::Ship(options.dumps, Box::new(config)));
    }
    if is_local {
        return Ok(Command::Read(Box::new(options)));
    }
    Ok(Command::Send(Box::new(options), Box::new(config)))
}

/// Every key of the configuration, with what it takes.
fn config_help() -> String {
    let mut text = String::from(
        "Keys: as --KEY VALUE here, as crashdmesg.KEY=VALUE on the kernel command line,\n\
         as KEY = VALUE in /etc/crashdmesg.conf. Those with a * may be repeated.\n\n",
    );
    for key in KEYS {
        let star = if key.repeats { "*" } else { " " };
        text += &format!("{star} {} {}\n      {}\n", key.name, key.value, key.help);
    }
    text
}

/// Takes the settings of a file; the command line's own stay stronger.
fn read_config(settings: &mut Settings, path: &Path) -> Result<(), String> {
    let known = settings.issues().len();
    settings
        .read_file(path)
        .map_err(|error| format!("{}: {error}", path.display()))?;
    match settings.issues().get(known) {
        Some(issue) => Err(format!("{}: {issue}", path.display())),
        None => Ok(()),
    }
}

/// A rehearsal reads the machine's configuration where no target is named.
fn rehearsal(options: Options, mut settings: Settings) -> Result<Command, String> {
    let targets = |config: &Config| !config.send.is_empty() || !config.fallback.is_empty();
    if !targets(&settings.config()) {
        read_config(&mut settings, Path::new(CONFIG_FILE))?;
    }
    let config = settings.config();
    if !targets(&config) {
        return Err(format!("{CONFIG_FILE} names no target to rehearse with"));
    }
    let dump = (!options.dumps.is_empty()).then(|| Box::new(options));
    Ok(Command::Rehearse(dump, Box::new(config)))
}

/// The configuration key that an option sets.
fn config_key(option: &str) -> Option<&'static str> {
    let name = option.strip_prefix("--")?;
    KEYS.iter().map(|key| key.name).find(|&key| key == name)
}

/// Applies one option; some only print a text.
fn apply<I: Iterator<Item = OsString>>(
    options: &mut Options,
    name: &str,
    args: &mut Args<I>,
) -> Result<Option<String>, String> {
    let style = &mut options.style;
    match name {
        "--log" => options.show = Show::Log,
        "--summary" => options.show = Show::Summary,
        "--osrelease" => options.show = Show::OsRelease,
        "--build-id" => options.show = Show::BuildId,
        "--vmcoreinfo" => match args.optional_text()? {
            file if file.is_empty() => options.show = Show::VmcoreInfo,
            file => options.vmcoreinfo = Some(vmcoreinfo(&file)?),
        },
        "--system-map" => options.system_map = Some(system_map(&args.value(name)?)?),
        "--identify" => options.show = Show::Identity,
        "--pipe-memory" => options.pipe_memory = Some(mebibytes(name, &args.text(name)?)?),
        "-o" | "--output" => {
            let path = args.value(name)?;
            options.output = (path != "-").then(|| path.into());
        }
        "-r" | "--raw" => style.raw = true,
        "-x" | "--decode" => style.decode = true,
        "--caller" => style.caller = true,
        "-l" | "--level" => options.filter.levels |= levels(&args.text(name)?)?,
        "-f" | "--facility" => options.filter.facilities |= facilities(&args.text(name)?)?,
        "-k" | "--kernel" => options.filter.facilities |= 1,
        "-u" | "--userspace" => options.filter.facilities |= !1,
        "-T" | "--ctime" => style.time = TimeFormat::Ctime,
        "-t" | "--notime" => style.time = TimeFormat::Notime,
        "-d" | "--show-delta" => style.time = TimeFormat::Delta,
        "-e" | "--reltime" => style.time = TimeFormat::Reltime,
        "--time-format" => style.time = time_format(&args.text(name)?)?,
        "-J" | "--json" => options.format = Format::Json,
        "--json-lines" => options.format = Format::JsonLines,
        "-L" | "--color" => options.color = color(&args.optional_text()?)?,
        "-h" | "--help" => return Ok(Some(HELP.to_owned())),
        "--help-config" => return Ok(Some(config_help())),
        "-V" | "--version" => return Ok(Some(format!("{VERSION}\n"))),
        _ => return Err(format!("unknown option {name}")),
    }
    Ok(None)
}

/// The text of VMCOREINFO in `file`: what `--vmcoreinfo` prints for another dump of the same boot.
fn vmcoreinfo(file: &str) -> Result<Vec<u8>, String> {
    let mut text = Vec::new();
    let read =
        File::open(file).and_then(|file| file.take(VMCOREINFO_LEN + 1).read_to_end(&mut text));
    read.map_err(|error| format!("--vmcoreinfo={file}: {error}"))?;
    Ok(text)
}

/// The symbols in `file`: a `System.map` or a `vmlinux`.
fn system_map(file: &OsStr) -> Result<SystemMap, String> {
    let of_file = |why: &dyn Display| format!("--system-map {}: {why}", file.display());
    let source = File::open(file).and_then(FileAt::new);
    let source = source.map_err(|error| of_file(&error))?;
    SystemMap::read(&source).map_err(|error| of_file(&error))
}

fn mebibytes(name: &str, value: &str) -> Result<u64, String> {
    let number = value
        .parse::<u64>()
        .ok()
        .and_then(|mib| mib.checked_mul(1 << 20));
    number.ok_or_else(|| format!("{name} {value}: not a number of MiB"))
}

fn time_format(name: &str) -> Result<TimeFormat, String> {
    Ok(match name {
        "ctime" => TimeFormat::Ctime,
        "iso" => TimeFormat::Iso,
        "delta" => TimeFormat::Delta,
        "reltime" => TimeFormat::Reltime,
        "notime" => TimeFormat::Notime,
        "raw" => TimeFormat::Raw,
        _ => {
            return Err(format!(
                "--time-format {name}: not one of ctime, iso, delta, reltime, notime, raw"
            ));
        }
    })
}

fn color(when: &str) -> Result<Option<bool>, String> {
    match when {
        "" | "auto" => Ok(None),
        "always" => Ok(Some(true)),
        "never" => Ok(Some(false)),
        _ => Err(format!("--color={when}: not one of auto, always, never")),
    }
}

/// A list of levels as a mask. `err+` means err and what is more severe, `+err` err and what is less.
fn levels(list: &str) -> Result<u8, String> {
    let mut mask = 0;
    for item in list.split(',') {
        let name = item.trim_matches('+');
        let level = LEVELS
            .iter()
            .position(|&level| level == name)
            .or_else(|| name.parse().ok().filter(|&n| n < 8));
        let level = level.ok_or_else(|| format!("--level {item}: no level"))?;
        mask |= match (item.ends_with('+'), item.starts_with('+')) {
            (true, _) => 0xff >> (7 - level),
            (_, true) => 0xff << level,
            _ => 1 << level,
        };
    }
    Ok(mask)
}

fn facilities(list: &str) -> Result<u32, String> {
    let mut mask = 0;
    for name in list.split(',') {
        let known = FACILITIES.iter().position(|&facility| facility == name);
        let facility = known.or_else(|| name.parse().ok().filter(|&n| n < FACILITIES.len()));
        mask |= 1 << facility.ok_or_else(|| format!("--facility {name}: no facility"))?;
    }
    Ok(mask)
}

/// One argument.
enum Arg {
    Option(String),
    Operand(OsString),
}

/// The arguments, with `-abc` taken apart and `--name=value` split.
struct Args<I> {
    args: I,
    pending: Option<Pending>,
    only_operands: bool,
}

enum Pending {
    /// The rest of `-abc`: more short options, or the value of the first.
    Shorts(String),
    /// What stood behind `=`.
    Value(String, String),
}

impl<I: Iterator<Item = OsString>> Args<I> {
    fn next_arg(&mut self) -> Result<Option<Arg>, String> {
        if let Some(Pending::Shorts(rest)) = self.pending.take() {
            return Ok(Some(self.short(&rest)));
        }
        let Some(arg) = self.args.next() else {
            return Ok(None);
        };
        if self.only_operands || arg == "-" || !arg.as_encoded_bytes().starts_with(b"-") {
            return Ok(Some(Arg::Operand(arg)));
        }
        if arg == "--" {
            self.only_operands = true;
            return self.next_arg();
        }
        let text = arg
            .into_string()
            .map_err(|arg| format!("unknown option {}", arg.display()))?;
        if text.starts_with("--") {
            let Some((name, value)) = text.split_once('=') else {
                return Ok(Some(Arg::Option(text)));
            };
            self.pending = Some(Pending::Value(name.to_owned(), value.to_owned()));
            return Ok(Some(Arg::Option(name.to_owned())));
        }
        Ok(Some(self.short(&text[1..])))
    }

    /// The first of some short options.
    fn short(&mut self, shorts: &str) -> Arg {
        let mut chars = shorts.chars();
        let first = chars.next().unwrap_or('-');
        let rest = chars.as_str();
        self.pending = (!rest.is_empty()).then(|| Pending::Shorts(rest.to_owned()));
        Arg::Option(format!("-{first}"))
    }

    /// The value of option `name`.
    fn value(&mut self, name: &str) -> Result<OsString, String> {
        let value = match self.pending.take() {
            Some(Pending::Value(_, value) | Pending::Shorts(value)) => Some(value.into()),
            None => self.args.next(),
        };
        value.ok_or_else(|| format!("{name} needs a value"))
    }

    fn text(&mut self, name: &str) -> Result<String, String> {
        self.value(name)?
            .into_string()
            .map_err(|value| format!("{name} {}: not UTF-8", value.display()))
    }

    /// The value behind `=`, empty without one.
    fn optional_text(&mut self) -> Result<String, String> {
        match self.pending.take() {
            Some(Pending::Value(_, value)) => Ok(value),
            other => {
                self.pending = other;
                Ok(String::new())
            }
        }
    }

    /// Complains about `--name=value` of an option that takes none.
    fn no_value_left(&mut self) -> Result<(), String> {
        match &self.pending {
            Some(Pending::Value(name, _)) => Err(format!("{name} takes no value")),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(args: &[&str]) -> Options {
        match parse(args.iter().map(OsString::from)) {
            Ok(Command::Read(options)) => *options,
            other => panic!("{other:?}"),
        }
    }

    fn error(args: &[&str]) -> String {
        parse(args.iter().map(OsString::from)).unwrap_err()
    }

    #[test]
    fn without_arguments_the_dump_is_the_capture_kernels() {
        assert_eq!(options(&[]).dumps, [PathBuf::from("/proc/vmcore")]);
    }

    #[test]
    fn short_options_stand_together_and_values_anywhere() {
        let options = options(&["-xrlerr", "--time-format=iso", "-o", "out", "--", "-dump"]);
        assert!(options.style.decode && options.style.raw);
        assert_eq!(options.filter.levels, 1 << 3);
        assert_eq!(options.style.time, TimeFormat::Iso);
        assert_eq!(options.output, Some(PathBuf::from("out")));
        assert_eq!(options.dumps, [PathBuf::from("-dump")]);
    }

    #[test]
    fn a_level_with_a_plus_takes_its_neighbours() {
        assert_eq!(options(&["-l", "err+"]).filter.levels, 0b1111);
        assert_eq!(options(&["-l", "+info,emerg"]).filter.levels, 0b1100_0001);
    }

    #[test]
    fn a_wrong_argument_is_named() {
        assert_eq!(error(&["--lgo"]), "unknown option --lgo");
        assert_eq!(error(&["--log=x"]), "--log takes no value");
        assert_eq!(error(&["-o"]), "-o needs a value");
        assert_eq!(error(&["-l", "loud"]), "--level loud: no level");
        assert_eq!(
            error(&["--time-format", "x"]),
            "--time-format x: not one of ctime, iso, delta, reltime, notime, raw"
        );
    }

    #[test]
    fn the_help_fits_one_screen() {
        assert!(HELP.lines().count() <= 50 && HELP.lines().all(|line| line.len() <= 90));
    }
}
