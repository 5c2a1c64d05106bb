//! Tasks: who they are, how many there are, and which of them are blocked.
//!
//! ```text
//! init_task.tasks <-> task.tasks <-> ...      thread-group leaders; the list closes at init_task
//!     task.signal->thread_head <-> task.thread_node <-> ...      the threads of a group, its leader among them
//! ```
//!
//! `include/linux/sched.h`, `include/linux/sched/signal.h`. The idle tasks of all CPUs but the first are on no list. A
//! few words of each task are read, past the page cache: a busy machine has tens of thousands of tasks, whose pages
//! would add up.

use alloc::vec::Vec;

use super::{Context, Task, text};
use crate::addr::VirtAddr;
use crate::bytes::{index, wide};
use crate::error::{At, Error, Result};
use crate::kernel::Kernel;
use crate::limits;

const TASK_INTERRUPTIBLE: u64 = 1;
const TASK_UNINTERRUPTIBLE: u64 = 2;
const TASK_STOPPED: u64 = 4;
const TASK_TRACED: u64 = 8;
/// Not counted as load: with `TASK_UNINTERRUPTIBLE` an idle kernel thread.
const TASK_NOLOAD: u64 = 0x400;

/// Reads without putting whole pages into the cache.
pub(super) fn read_past_cache(kernel: &Kernel<'_>, addr: VirtAddr, buf: &mut [u8]) -> Result<()> {
    let mut at = addr;
    let mut rest = buf;
    while !rest.is_empty() {
        let mapping = kernel.translate(at)?;
        let (now, later) = rest.split_at_mut(index(mapping.len).clamp(1, rest.len()));
        kernel.physical().read_phys(mapping.paddr, now)?;
        at = at.wrapping_add(wide(now.len()));
        rest = later;
    }
    Ok(())
}

pub(super) fn word_at(kernel: &Kernel<'_>, addr: VirtAddr) -> Result<u64> {
    let mut raw = [0; 8];
    let size = kernel.word_size().size();
    read_past_cache(kernel, addr, raw.get_mut(..size).unwrap_or_default())?;
    let word = kernel.endian().word(kernel.word_size(), &raw, 0);
    Ok(word.unwrap_or_default())
}

pub(super) fn int_at(kernel: &Kernel<'_>, addr: VirtAddr) -> Result<u32> {
    let mut raw = [0; 4];
    read_past_cache(kernel, addr, &mut raw)?;
    Ok(kernel.endian().u32(&raw, 0).unwrap_or_default())
}

/// Where the members of `task_struct` are.
pub(super) struct Members {
    tasks: u64,
    signal: u64,
    thread_node: u64,
    thread_head: u64,
    pid: u64,
    comm: u64,
    state: (u64, u64),
    exit_state: u64,
    /// `sched_info.last_arrival`, where the kernel keeps it.
    last_arrival: Option<u64>,
}

impl Members {
    pub(super) fn new(context: &Context<'_>) -> Result<Self> {
        let state = context
            .layouts
            .member("task_struct.__state")
            .or_else(|_| context.member("task_struct.state"))?;
        Ok(Members {
            tasks: context.offset("task_struct.tasks")?,
            signal: context.offset("task_struct.signal")?,
            thread_node: context.offset("task_struct.thread_node")?,
            thread_head: context.offset("signal_struct.thread_head")?,
            pid: context.offset("task_struct.pid")?,
            comm: context.offset("task_struct.comm")?,
            state: (state.offset, state.size),
            exit_state: context.offset("task_struct.exit_state")?,
            last_arrival: context.offset("task_struct.sched_info.last_arrival").ok(),
        })
    }

    /// `__state` (or `state`) and `exit_state`.
    fn states(&self, kernel: &Kernel<'_>, task: VirtAddr) -> Result<(u64, u32)> {
        let (offset, size) = self.state;
        let at = task.wrapping_add(offset);
        let state = if size == 4 {
            u64::from(int_at(kernel, at)?)
        } else {
            word_at(kernel, at)?
        };
        // Zombies and dead tasks have a state of their own beside it.
        Ok((state, int_at(kernel, task.wrapping_add(self.exit_state))?))
    }

    /// Reads what is reported of a task.
    pub(super) fn task(&self, context: &Context<'_>, addr: VirtAddr) -> Result<Task> {
        let kernel = context.kernel;
        let (state, exit_state) = self.states(kernel, addr)?;
        let mut comm = [0; 16];
        read_past_cache(kernel, addr.wrapping_add(self.comm), &mut comm)?;
        let int = |path| int_at(kernel, addr.wrapping_add(context.offset(path)?));
        let ppid = context
            .offset("task_struct.real_parent")
            .and_then(|offset| {
                let parent = word_at(kernel, addr.wrapping_add(offset))?;
                int_at(kernel, VirtAddr(parent).wrapping_add(self.pid))
            });
        Ok(Task {
            addr,
            pid: int_at(kernel, addr.wrapping_add(self.pid))?.cast_signed(),
            ppid: ppid.ok().map(u32::cast_signed),
            comm: text(&comm),
            state: letter(state, exit_state),
            state_bits: state,
            cpu: int("task_struct.cpu")
                .or_else(|_| int("task_struct.thread_info.cpu"))
                .ok(),
        })
    }
}

/// The letter of a task's state, as `ps` prints it.
fn letter(state: u64, exit_state: u32) -> char {
    match (state, exit_state) {
        (_, exit) if exit & 0x20 != 0 => 'Z',
        (_, exit) if exit & 0x10 != 0 => 'X',
        (0, _) => 'R',
        (state, _) if state & TASK_UNINTERRUPTIBLE != 0 => {
            if state & TASK_NOLOAD != 0 {
                'I'
            } else {
                'D'
            }
        }
        (state, _) if state & TASK_TRACED != 0 => 't',
        (state, _) if state & TASK_STOPPED != 0 => 'T',
        (state, _) if state & TASK_INTERRUPTIBLE != 0 => 'S',
        (state, _) if state & 0x40 != 0 => 'P',
        _ => '?',
    }
}

/// What a walk over all tasks gave.
pub(super) struct Walk {
    /// Tasks on the lists but for `init_task`, which is the idle task of the first CPU.
    pub(super) count: u64,
    /// Those that have been blocked longest, by when they last ran.
    pub(super) blocked: Vec<(u64, VirtAddr)>,
    /// How many are blocked.
    pub(super) blocked_count: u64,
    /// What ended the walk early.
    pub(super) error: Option<Error>,
}

/// Walks over all tasks.
pub(super) fn walk(context: &Context<'_>, members: &Members) -> Result<Walk> {
    let init = context.symbol("init_task")?;
    let mut walk = Walk {
        count: 0,
        blocked: Vec::new(),
        blocked_count: 0,
        error: None,
    };
    walk.error = walk.groups(context.kernel, members, init).err();
    Ok(walk)
}

impl Walk {
    fn groups(&mut self, kernel: &Kernel<'_>, members: &Members, init: VirtAddr) -> Result<()> {
        let head = init.wrapping_add(members.tasks);
        let mut node = next_of(kernel, head)?;
        while node != head {
            let leader = node.wrapping_sub(members.tasks);
            self.threads(kernel, members, leader)?;
            node = next_of(kernel, node)?;
        }
        Ok(())
    }

    /// The threads of a group. One that is damaged costs its other threads, not the other groups.
    fn threads(&mut self, kernel: &Kernel<'_>, members: &Members, leader: VirtAddr) -> Result<()> {
        self.visit(kernel, members, leader)?;
        let signal = word_at(kernel, leader.wrapping_add(members.signal))?;
        let head = VirtAddr(signal).wrapping_add(members.thread_head);
        let own = leader.wrapping_add(members.thread_node);
        let mut node = word_at(kernel, own).map(VirtAddr)?;
        if signal == 0 || node == head {
            // Alone, but perhaps not first: a leader is always first.
            return Ok(());
        }
        while node != head {
            let Ok(next) = next_of(kernel, node) else {
                break;
            };
            self.visit(kernel, members, node.wrapping_sub(members.thread_node))?;
            node = next;
        }
        Ok(())
    }

    fn visit(&mut self, kernel: &Kernel<'_>, members: &Members, task: VirtAddr) -> Result<()> {
        self.count = self.count.saturating_add(1);
        if self.count > limits::TASKS {
            return Err(Error::Limit {
                what: "the number of tasks",
                value: self.count,
                max: limits::TASKS,
            });
        }
        let (state, exit_state) = members.states(kernel, task)?;
        if letter(state, exit_state) == 'D' {
            self.blocked_count = self.blocked_count.saturating_add(1);
            let arrival = members.last_arrival.map(|offset| task.wrapping_add(offset));
            let arrival = arrival.and_then(|at| word_at(kernel, at).ok()).unwrap_or(0);
            let place = self.blocked.partition_point(|&(other, _)| other <= arrival);
            self.blocked.insert(place, (arrival, task));
            self.blocked.truncate(limits::BLOCKED_TASKS);
        }
        Ok(())
    }
}

/// The node after `node`, which must point back: a list that was being changed, or was overwritten, ends here.
fn next_of(kernel: &Kernel<'_>, node: VirtAddr) -> Result<VirtAddr> {
    let next = VirtAddr(word_at(kernel, node)?);
    let back_at = next.wrapping_add(wide(kernel.word_size().size()));
    let back = word_at(kernel, back_at)?;
    if back != node.0 {
        return Err(Error::Invalid {
            what: "list_head.prev",
            at: At::Virt(back_at),
            value: back,
            why: "does not point back",
        });
    }
    Ok(next)
}

/// How long a task has been blocked, about: the clock of its CPU less the last time it was put on one.
pub(super) fn blocked_ns(context: &Context<'_>, task: &Task, arrival: u64) -> Result<u64> {
    let missing = Error::Missing {
        key: "task_struct.sched_info.last_arrival",
    };
    let cpu = task.cpu.filter(|_| arrival != 0).ok_or(missing)?;
    let clock = context
        .per_cpu("runqueues", cpu)?
        .wrapping_add(context.offset("rq.clock")?);
    Ok(context.kernel.read_u64(clock)?.saturating_sub(arrival))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_has_the_letter_that_ps_prints() {
        for (state, exit_state, expected) in [
            (0, 0, 'R'),
            (1, 0, 'S'),
            (0x2001, 0, 'S'),
            (2, 0, 'D'),
            (0x102, 0, 'D'),
            (0x402, 0, 'I'),
            (0x8, 0, 't'),
            (0x104, 0, 'T'),
            (0, 0x20, 'Z'),
            (0x80, 0x10, 'X'),
            (0x40, 0, 'P'),
        ] {
            assert_eq!(
                letter(state, exit_state),
                expected,
                "{state:#x} {exit_state:#x}"
            );
        }
    }
}
