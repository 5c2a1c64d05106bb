//! What the crashed kernel's memory tells about the machine and its end: the facts that `crash` shows in its banner, in
//! `bt -a` and in `ps`, without debuginfo.
//!
//! VMCOREINFO leads to kallsyms, kallsyms to variables and to BTF, BTF to structures, and those to CPUs and tasks. Each
//! fact is optional: what cannot be read is a gap with its reason and does not keep the others from being read.

use alloc::string::String;
use alloc::vec::Vec;

use crate::addr::VirtAddr;
use crate::bytes::wide;
use crate::dump::{Machine, Prstatus, Vmcore};
use crate::error::{Error, Result};
use crate::kallsyms::modules::Module;
use crate::kernel::Kernel;
use crate::limits;
use crate::printk::pending::Pending;
use crate::unwind::{Code, Trace, Unwinder};

mod context;
mod cpus;
mod names;
mod pending;
mod system;
mod tasks;
mod traces;

use context::Context;

/// The names of the machine and its kernel: `struct new_utsname`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uts {
    /// "Linux".
    pub sysname: String,
    /// The host's name.
    pub nodename: String,
    /// The kernel's release, as `uname -r` prints it.
    pub release: String,
    /// The kernel's build, as `uname -v` prints it.
    pub version: String,
    /// The architecture, as `uname -m` prints it.
    pub machine: String,
    /// The NIS domain.
    pub domainname: String,
}

/// A task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Its `task_struct`.
    pub addr: VirtAddr,
    /// Its pid, in the first pid namespace.
    pub pid: i32,
    /// Its parent's pid.
    pub ppid: Option<i32>,
    /// Its name.
    pub comm: String,
    /// Its state as `ps` prints it: R, S, D, I, T, t, P, Z, X.
    pub state: char,
    /// Its state in bits, as the kernel has it.
    pub state_bits: u64,
    /// The CPU it was last on.
    pub cpu: Option<u32>,
}

/// A CPU at the crash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cpu {
    /// Its number.
    pub number: u32,
    /// The task that ran on it.
    pub task: Option<Task>,
    /// The pid it noted with its registers, where it saved any.
    pub pid: Option<i32>,
    /// True when interrupts were disabled, where that is known.
    pub irqs_off: Option<bool>,
    /// Which of the traces is its.
    pub trace: Option<usize>,
}

/// A task in uninterruptible sleep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// The task.
    pub task: Task,
    /// How long it has been blocked, about.
    pub blocked_ns: Option<u64>,
    /// Which of the traces is its.
    pub trace: Option<usize>,
}

/// A fact that is not known, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The fact.
    pub what: &'static str,
    /// What kept it from being read.
    pub why: Error,
}

/// All that could be read.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Names of the machine and its kernel.
    pub uts: Option<Uts>,
    /// When it crashed, in seconds since 1970, UTC.
    pub crash_time: Option<u64>,
    /// How long it had run.
    pub uptime_ns: Option<u64>,
    /// The boot id.
    pub boot_id: Option<String>,
    /// The kernel's command line.
    pub command_line: Option<String>,
    /// What the firmware calls the machine.
    pub hardware: Option<String>,
    /// CPUs that were running at the crash: a panic takes some kernels' other CPUs offline, but they leave registers.
    pub cpus_online: Option<u32>,
    /// CPUs that were not, up to the highest number of one that was.
    pub cpus_offline: Option<u32>,
    /// The processor's speed in kHz.
    pub cpu_khz: Option<u32>,
    /// Bytes of memory that the machine has.
    pub memory_present: Option<u64>,
    /// Bytes of memory that the kernel managed.
    pub memory_total: Option<u64>,
    /// Bytes of it that were free.
    pub memory_free: Option<u64>,
    /// Load averages of 1, 5 and 15 minutes, in hundredths.
    pub load_average: Option<[u64; 3]>,
    /// Tasks, threads included. The idle tasks, one for each CPU that is online, are not.
    pub tasks: Option<u64>,
    /// The mask of taints.
    pub taint: Option<u64>,
    /// What `panic` was called with.
    pub panic_message: Option<String>,
    /// The CPU that panicked.
    pub panic_cpu: Option<u32>,
    /// Every CPU that was online or left registers.
    pub cpus: Vec<Cpu>,
    /// Tasks in uninterruptible sleep, the longest blocked first; at most [`limits::BLOCKED_TASKS`].
    pub blocked: Vec<Blocked>,
    /// How many there are in all.
    pub blocked_count: Option<u64>,
    /// Backtraces of CPUs and blocked tasks. Equal ones are kept once.
    pub traces: Vec<Trace>,
    /// Loaded modules, the last loaded first.
    pub modules: Option<Vec<Module>>,
    /// Text that was not yet in the log.
    pub pending: Vec<Pending>,
    /// What is not known, and why.
    pub gaps: Vec<Gap>,
}

impl Facts {
    /// Reads what can be read. It cannot fail; what is missing is in `gaps`.
    pub fn collect(vmcore: &Vmcore<'_>, kernel: &Kernel<'_>) -> Self {
        // A hypervisor's notes are in the order of its CPUs, and hold their numbers for pids. On x86, it adds notes of
        // its own.
        let mut all = vmcore.notes();
        let mut hypervisor = false;
        while let Some(note) = all.next() {
            hypervisor |= note.is_named("QEMU");
        }
        let mut notes = Vec::new();
        let mut rest = vmcore.notes();
        while let Some(note) = rest.next_prstatus(kernel.abi()) {
            notes.push(note);
            if wide(notes.len()) >= u64::from(limits::CPUS) {
                break;
            }
        }
        // Elsewhere it shows by those numbers, and by the time of a crash that no kernel wrote down.
        let numbered = notes
            .iter()
            .zip(1..)
            .all(|(note, number)| note.as_ref().is_ok_and(|registers| registers.pid == number));
        hypervisor |= numbered && kernel.info().crash_time().is_none();
        Self::from_notes(&notes, hypervisor, kernel)
    }

    /// The same with the registers that the dump's notes hold.
    fn from_notes(notes: &[Result<Prstatus>], hypervisor: bool, kernel: &Kernel<'_>) -> Self {
        let mut facts = Facts::default();
        let context = Context::new(kernel, &mut facts);
        facts.collect_system(&context);
        let online = facts.fact("online CPUs", cpus::online(&context));
        let online = online.unwrap_or_default();
        facts.panic_cpu = facts.fact("panic CPU", cpus::panicked(&context)).flatten();
        facts.collect_pending(&context);
        facts.collect_modules(&context);
        let members = tasks::Members::new(&context);
        let (registers, pids) = cpus::registers(&context, notes, hypervisor, &online);
        facts.collect_cpus(&context, &members, &online, &registers, pids);
        facts.collect_tasks(&context, &members);
        facts.collect_traces(&context, &registers);
        facts
    }

    fn gap(&mut self, what: &'static str, why: Error) {
        self.gaps.push(Gap { what, why });
    }

    /// Takes a fact, or notes why it is missing.
    fn fact<T>(&mut self, what: &'static str, fact: Result<T>) -> Option<T> {
        fact.map_err(|why| self.gap(what, why)).ok()
    }

    fn collect_system(&mut self, context: &Context<'_>) {
        self.uts = self.fact("names of the machine", system::uts(context));
        let crash_time = context.kernel.info().crash_time();
        let crash_time = crash_time.map_or_else(|| system::wall_time(context), Ok);
        self.crash_time = self.fact("crash time", crash_time);
        self.uptime_ns = self.fact("uptime", system::uptime(context));
        self.boot_id = self.fact("boot id", system::boot_id(context));
        self.command_line = self.fact("command line", system::command_line(context));
        self.hardware = self.fact("hardware name", system::hardware(context));
        if context.kernel.abi().machine == Machine::X86_64 {
            self.cpu_khz = self.fact("processor speed", system::cpu_khz(context));
        }
        self.memory_present = self.fact("memory of all nodes", system::memory_present(context));
        self.memory_total = self.fact("total memory", system::memory_total(context));
        self.memory_free = self.fact("free memory", system::memory_free(context));
        self.load_average = self.fact("load average", system::load_average(context));
        self.taint = self.fact("taint", system::taint(context));
        // Empty after an oops, which goes to the capture kernel without a call of panic.
        self.panic_message = system::panic_message(context).ok();
    }

    fn collect_pending(&mut self, context: &Context<'_>) {
        let (pending, error) = pending::collect(context, self.panic_cpu);
        self.pending = pending;
        if let Some(why) = error {
            self.gap("text that was not yet in the log", why);
        }
    }

    fn collect_modules(&mut self, context: &Context<'_>) {
        let Some(head) = self.fact("modules", context.symbol("modules")) else {
            return;
        };
        let (modules, error) = Module::list(context.kernel, &context.layouts, head);
        if let Some(why) = error {
            let what = if modules.is_empty() {
                "modules"
            } else {
                "more modules"
            };
            self.gap(what, why);
        }
        self.modules = (error.is_none() || !modules.is_empty()).then_some(modules);
    }

    fn collect_cpus(
        &mut self,
        context: &Context<'_>,
        members: &Result<tasks::Members>,
        online: &[u32],
        registers: &[(u32, Prstatus)],
        pids: bool,
    ) {
        let mut numbers: Vec<u32> = online.to_vec();
        numbers.extend(registers.iter().map(|(cpu, _)| *cpu));
        numbers.sort_unstable();
        numbers.dedup();
        if let Some(&highest) = numbers.last().filter(|_| !online.is_empty()) {
            let running = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
            self.cpus_online = Some(running);
            self.cpus_offline = Some(highest.saturating_add(1).saturating_sub(running));
        }
        for number in numbers {
            let saved = registers.iter().find(|(cpu, _)| *cpu == number);
            let saved = saved.map(|(_, registers)| registers);
            let task = members.as_ref().map_err(|&error| error);
            let task =
                task.and_then(|members| members.task(context, cpus::current(context, number)?));
            let first = self.cpus.iter().all(|cpu| cpu.task.is_some());
            let task = match task {
                Err(why) if first => {
                    self.gap("tasks on CPUs", why);
                    None
                }
                other => other.ok(),
            };
            self.cpus.push(Cpu {
                number,
                task,
                pid: saved.map(|saved| saved.pid).filter(|_| pids),
                irqs_off: saved.and_then(|saved| irqs_off(context.kernel.abi().machine, saved)),
                trace: None,
            });
        }
    }

    fn collect_tasks(&mut self, context: &Context<'_>, members: &Result<tasks::Members>) {
        let members = members.as_ref().map_err(|&error| error);
        let walk = members.and_then(|members| Ok((members, tasks::walk(context, members)?)));
        let Some((members, walk)) = self.fact("tasks", walk) else {
            return;
        };
        if let Some(why) = walk.error {
            self.gap("all tasks", why);
        } else {
            self.tasks = Some(walk.count);
        }
        self.blocked_count = Some(walk.blocked_count);
        for (arrival, addr) in walk.blocked {
            if let Ok(task) = members.task(context, addr) {
                let blocked_ns = tasks::blocked_ns(context, &task, arrival).ok();
                self.blocked.push(Blocked {
                    task,
                    blocked_ns,
                    trace: None,
                });
            }
        }
        self.blocked
            .sort_by_key(|blocked| core::cmp::Reverse(blocked.blocked_ns));
    }

    fn collect_traces(&mut self, context: &Context<'_>, registers: &[(u32, Prstatus)]) {
        let Some(kallsyms) = &context.kallsyms else {
            self.gap("backtraces", context.no_symbols);
            return;
        };
        let modules = self.modules.clone().unwrap_or_default();
        let code = Code::new(context.kernel, kallsyms, &modules);
        let mut unwinder = Unwinder::new(context.kernel, &code, traces::orc_bounds(context));
        unwinder.stackframe = context.offset("pt_regs.stackframe").ok();
        if let Some(why) = unwinder.no_orc {
            self.gap("exact backtraces (ORC)", why);
        }
        // The CPU that panicked first: should there be more traces than are kept, its is among them.
        let panicked = self.panic_cpu;
        let mut order: Vec<usize> = (0..self.cpus.len()).collect();
        order.sort_by_key(|&place| self.cpus.get(place).map(|cpu| cpu.number) != panicked);
        if order.len() > limits::TRACED_CPUS {
            order.truncate(limits::TRACED_CPUS);
            self.gap(
                "backtraces of all CPUs",
                Error::Limit {
                    what: "the number of CPUs",
                    value: wide(self.cpus.len()),
                    max: wide(limits::TRACED_CPUS),
                },
            );
        }
        let mut failed = None;
        for place in order {
            let Some(cpu) = self.cpus.get(place) else {
                continue;
            };
            let saved = registers.iter().find(|(number, _)| *number == cpu.number);
            let task = cpu.task.as_ref();
            let trace = match saved {
                Some((_, saved)) => traces::of_cpu(context, &unwinder, cpu.number, task, saved),
                // It did not answer when it was told to stop: of all CPUs the one to ask about.
                None => traces::of_silent_cpu(context, &unwinder, task),
            };
            match trace.and_then(|trace| self.keep(trace)) {
                Ok(kept) => {
                    if let Some(cpu) = self.cpus.get_mut(place) {
                        cpu.trace = Some(kept);
                    }
                }
                Err(why) => failed = Some(why),
            }
        }
        for place in 0..self.blocked.len() {
            let Some(blocked) = self.blocked.get(place) else {
                continue;
            };
            let trace = traces::of_task(context, &unwinder, &blocked.task);
            match trace.and_then(|trace| self.keep(trace)) {
                Ok(kept) => {
                    if let Some(blocked) = self.blocked.get_mut(place) {
                        blocked.trace = Some(kept);
                    }
                }
                Err(why) => failed = Some(why),
            }
        }
        if let Some(why) = failed {
            self.gap("all backtraces", why);
        }
    }

    /// Keeps a trace, or finds its like among those that are kept.
    fn keep(&mut self, trace: Trace) -> Result<usize> {
        if let Some(place) = self.traces.iter().position(|known| known.is_like(&trace)) {
            return Ok(place);
        }
        if self.traces.len() >= limits::TRACES {
            let max = wide(limits::TRACES);
            return Err(Error::Limit {
                what: "the number of different backtraces",
                value: max.saturating_add(1),
                max,
            });
        }
        self.traces.push(trace);
        Ok(self.traces.len().saturating_sub(1))
    }

    /// The CPU that panicked.
    pub fn panicked(&self) -> Option<&Cpu> {
        self.cpus
            .iter()
            .find(|cpu| Some(cpu.number) == self.panic_cpu)
    }
}

/// Whether interrupts were disabled.
fn irqs_off(machine: Machine, registers: &Prstatus) -> Option<bool> {
    const IF: u64 = 1 << 9;
    match machine {
        Machine::X86_64 => registers.regs.get(18).map(|flags| flags & IF == 0),
        Machine::I386 => registers.regs.get(14).map(|flags| flags & IF == 0),
        _ => None,
    }
}

/// The letters of a mask of taints, in bit order: `DOE`. Empty when the kernel is not tainted.
pub fn taint_letters(mask: u64) -> String {
    const LETTERS: &str = "PFSRMBUDAWCIOELKXTNJ";
    let set = LETTERS.chars().enumerate();
    let set = set.filter(|(bit, _)| {
        let bit = u32::try_from(*bit).unwrap_or(u32::MAX);
        mask.checked_shr(bit).unwrap_or(0) & 1 != 0
    });
    set.map(|(_, letter)| letter).collect()
}

/// Bytes up to a NUL as text on one line: what is not printable becomes a question mark.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0);
    let bytes = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
    let text = String::from_utf8_lossy(bytes);
    let clean = text.chars().map(|c| match c {
        '\n' | '\t' => ' ',
        c if c.is_control() || c == char::REPLACEMENT_CHARACTER => '?',
        c => c,
    });
    let clean: String = clean.collect();
    String::from(clean.trim_end())
}
