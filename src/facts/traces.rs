//! Backtraces of CPUs and blocked tasks: where their stacks are and where to start.

use super::{Context, Task};
use crate::addr::VirtAddr;
use crate::dump::{Machine, Prstatus};
use crate::error::{Error, Result};
use crate::unwind::{OrcBounds, Stack, Stacks, Trace, Unwinder};

/// Bytes of an interrupt stack on x86_64.
const IRQ_STACK_LEN: u64 = 16 << 10;

/// The bounds of the kernel's ORC tables.
pub(super) fn orc_bounds(context: &Context<'_>) -> Result<OrcBounds> {
    let header = context.symbol("__start_orc_header").ok();
    let header = header.and_then(|at| {
        let mut hash = [0; 4];
        context.kernel.read_at(at, &mut hash).ok()?;
        Some(hash)
    });
    Ok(OrcBounds {
        ips: context.symbol("__start_orc_unwind_ip")?,
        ips_end: context.symbol("__stop_orc_unwind_ip")?,
        entries: context.symbol("__start_orc_unwind")?,
        header,
    })
}

/// Bytes of a task's stack (`THREAD_SIZE`), by the stack of the first task.
fn stack_len(context: &Context<'_>) -> u64 {
    let between = |start, end| {
        let start = context.symbol(start).ok()?;
        context.symbol(end).ok()?.offset_from(start)
    };
    between("__start_init_stack", "__end_init_stack")
        .or_else(|| between("__start_init_task", "__end_init_task"))
        .filter(|len| (4 << 10..=128 << 10).contains(len))
        .unwrap_or_else(|| context.kernel.info().page_size().max(16 << 10))
}

fn add_task_stack(context: &Context<'_>, stacks: &mut Stacks, task: &Task) {
    let Ok(offset) = context.offset("task_struct.stack") else {
        return;
    };
    let at = task.addr.wrapping_add(offset);
    if let Ok(start) = context.kernel.read_ptr(at, "task_struct.stack") {
        stacks.add(Stack::Task, start, start.wrapping_add(stack_len(context)));
    }
}

/// The stacks of x86_64 that belong to a CPU.
fn add_cpu_stacks(context: &Context<'_>, stacks: &mut Stacks, cpu: u32) {
    let kernel = context.kernel;
    let irq = context.per_cpu("hardirq_stack_ptr", cpu).or_else(|_| {
        // From 6.2 to 6.14.
        let offset = context.offset("pcpu_hot.hardirq_stack_ptr")?;
        Ok(context.per_cpu("pcpu_hot", cpu)?.wrapping_add(offset))
    });
    if let Ok(top) = irq.and_then(|at| kernel.read_ptr(at, "hardirq_stack_ptr")) {
        // Since 5.12 the pointer is one word below the end.
        let end = top.wrapping_add(8).0 & !0xfff;
        stacks.add(
            Stack::Irq,
            VirtAddr(end.wrapping_sub(IRQ_STACK_LEN)),
            VirtAddr(end),
        );
    }
    let exceptions = context.per_cpu("cea_exception_stacks", cpu);
    let exceptions = exceptions.and_then(|at| kernel.read_ptr(at, "cea_exception_stacks"));
    let Ok(exceptions) = exceptions else {
        return;
    };
    for (path, stack) in [
        ("cea_exception_stacks.NMI_stack", Stack::Nmi),
        ("cea_exception_stacks.DF_stack", Stack::DoubleFault),
        ("cea_exception_stacks.DB_stack", Stack::Debug),
        ("cea_exception_stacks.MCE_stack", Stack::MachineCheck),
        ("cea_exception_stacks.VC_stack", Stack::Vc),
        ("cea_exception_stacks.VC2_stack", Stack::Vc),
    ] {
        if let Ok(member) = context.layouts.member(path) {
            let start = exceptions.wrapping_add(member.offset);
            stacks.add(stack, start, start.wrapping_add(member.size));
        }
    }
}

/// The backtrace of a CPU.
pub(super) fn of_cpu(
    context: &Context<'_>,
    unwinder: &Unwinder<'_>,
    cpu: u32,
    task: Option<&Task>,
    registers: &Prstatus,
) -> Result<Trace> {
    let mut stacks = Stacks::default();
    if let Some(task) = task {
        add_task_stack(context, &mut stacks, task);
    }
    if context.kernel.abi().machine == Machine::X86_64 {
        add_cpu_stacks(context, &mut stacks, cpu);
    }
    unwinder.running(&registers.regs, &stacks)
}

/// What the stack of a task tells that ran on a CPU which saved no registers. An idle task's stack tells nothing.
pub(super) fn of_silent_cpu(
    context: &Context<'_>,
    unwinder: &Unwinder<'_>,
    task: Option<&Task>,
) -> Result<Trace> {
    let mut stacks = Stacks::default();
    if let Some(task) = task.filter(|task| task.pid != 0) {
        add_task_stack(context, &mut stacks, task);
    }
    unwinder.leftovers(&stacks)
}

/// The backtrace of a task that sleeps.
pub(super) fn of_task(
    context: &Context<'_>,
    unwinder: &Unwinder<'_>,
    task: &Task,
) -> Result<Trace> {
    let kernel = context.kernel;
    let layouts = &context.layouts;
    let mut stacks = Stacks::default();
    add_task_stack(context, &mut stacks, task);
    let at = |path| Ok(task.addr.wrapping_add(context.offset(path)?));
    let word = |path| kernel.read_word(at(path)?).map(VirtAddr);
    let (pc, sp, frame) = match kernel.abi().machine {
        Machine::X86_64 => {
            let size = layouts.size("inactive_task_frame").unwrap_or(56);
            return unwinder.sleeping(word("task_struct.thread.sp")?, size, &stacks);
        }
        Machine::I386 => {
            let size = layouts.size("inactive_task_frame")?;
            let end = word("task_struct.thread.sp")?.wrapping_add(size);
            let saved = |back| kernel.read_word(end.wrapping_sub(back)).map(VirtAddr);
            (saved(4)?, end, saved(8)?)
        }
        Machine::Aarch64 => {
            // x19 to x28 come first, then fp, sp and pc.
            let saved = at("task_struct.thread.cpu_context")?;
            let reg = |offset| kernel.read_word(saved.wrapping_add(offset)).map(VirtAddr);
            (reg(96)?, reg(88)?, reg(80)?)
        }
        Machine::Riscv => (
            word("task_struct.thread.ra")?,
            word("task_struct.thread.sp")?,
            word("task_struct.thread.s")?,
        ),
        Machine::Loongarch => (
            word("task_struct.thread.reg01")?,
            word("task_struct.thread.reg03")?,
            word("task_struct.thread.reg22")?,
        ),
        Machine::Ppc64 => {
            let caller = VirtAddr(kernel.read_word(word("task_struct.thread.ksp")?)?);
            let pc = kernel.read_word(caller.wrapping_add(16))?;
            (VirtAddr(pc), caller, caller)
        }
        Machine::S390 => {
            let saved = word("task_struct.thread.ksp")?;
            let reg = |offset| kernel.read_word(saved.wrapping_add(offset)).map(VirtAddr);
            (reg(136)?, reg(144)?, reg(144)?)
        }
        _ => {
            return Err(Error::Unsupported {
                what: "unwinding of machine",
                value: 0,
            });
        }
    };
    Ok(unwinder.sleeping_chain(pc, sp, frame, &stacks))
}
