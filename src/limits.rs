//! Every bound of the core, one constant each, with its reason.
//!
//! The memory that is read belonged to a kernel that had just died, so any number in it may be anything. Each loop
//! over the dump ends because of a constant here, and nothing is allocated whose size the dump decides beyond them.

/// Longest VMCOREINFO text in bytes. The kernel's own limit is one page; the largest page in use is 64 KiB.
pub const VMCOREINFO_LEN: u64 = 64 << 10;

/// Most texts of VMCOREINFO that are tried when memory is searched for it: one of this kernel, a few of earlier ones and
/// of guests.
pub const VMCOREINFO_TRIES: u64 = 64;

/// Longest `NT_PRSTATUS` note in bytes. The largest in use is ppc64's with 504.
pub const PRSTATUS_LEN: u64 = 4 << 10;

/// Most notes that are looked at for who wrote a dump; a CPU has up to ten.
pub const NOTES: u32 = 1 << 16;

/// Most program headers that are looked at. QEMU writes one per mapping when asked for paging, 65535 and more; a
/// segment takes 32 bytes of ours.
pub const PROGRAM_HEADERS: u64 = 1 << 20;

/// Bytes of a page in our caches, whatever the crashed kernel's page size.
pub const PAGE: u64 = 4096;

/// Pages that the cache of the crashed kernel's memory holds.
pub const PAGE_CACHE_PAGES: usize = 64;

/// Bytes of `new_utsname.release` with its NUL.
pub const RELEASE_LEN: usize = 65;

/// Places looked at for the kernel image where nothing tells where it is: 512 GiB in steps of 2 MiB, 16 GiB in those of
/// 64 KiB, seconds at worst.
pub const IMAGE_PROBES: u32 = 1 << 18;

/// Bytes read ahead of a pass over an array of the crashed kernel.
pub const WINDOW_LEN: u64 = 32 << 10;

/// Most symbols in kallsyms. Distribution kernels have up to 250,000.
pub const KALLSYMS: u32 = 2_000_000;

/// Longest `kallsyms_names` in bytes; 3 MiB is much.
pub const KALLSYMS_NAMES_LEN: u64 = 12 << 20;

/// Bytes of 256 packed names that are read to find one of them; 3 KiB is usual.
pub const KALLSYMS_BLOCK_LEN: u64 = 32 << 10;

/// Bytes searched for kallsyms in kernels that do not tell where it is: BTF and the export tables, which lie between
/// it and the data, take up to 8 MiB.
pub const KALLSYMS_SEARCH_LEN: u64 = 10 << 20;

/// Longest symbol name in bytes (`KSYM_NAME_LEN` since 6.1).
pub const SYMBOL_LEN: usize = 512;

/// Most static variables called `buf` that are looked at; kernels have about 30.
pub const STATIC_BUFFERS: usize = 256;

/// Largest structure of the log, in bytes; the largest in use is 7.0's `printk_info` with 112.
pub const STRUCT_LEN: u64 = 1 << 10;

/// Most `count_bits` of a descriptor ring. `log_buf_len=` ends at 2 GiB, five bits more than the descriptors.
pub const PRB_COUNT_BITS: u32 = 26;

/// Most `size_bits` of a text ring: 2 GiB.
pub const PRB_SIZE_BITS: u32 = 31;

/// Largest log buffer before 5.10, in bytes.
pub const LOG_BUF_LEN: u64 = 1 << 31;

/// Bytes of a log buffer before 5.10 that are looked at when its length is damaged; few kernels are told to have more.
pub const LOG_BUF_GUESS: u64 = 32 << 20;

/// Largest buffer of a CPU for what it cannot log at once (`CONFIG_PRINTK_SAFE_LOG_BUF_SHIFT` is at most 17).
pub const PRINTK_SAFE_LEN: u64 = 128 << 10;

/// Bytes of text that is not yet in the log that are kept in all: an oops takes 3 KiB, a CPU's backtrace 2. Collectors
/// that get the report as one entry take 64 KiB of it.
pub const PENDING_LEN: u64 = 32 << 10;

/// Most buffers of such text that are listed; two for each CPU have one at most.
pub const PENDING_PLACES: usize = 1024;

/// Longest record in bytes: lengths have 16 bits.
pub const RECORD_LEN: u64 = 64 << 10;

/// Most records of a flattened stream, 24 bytes each. makedumpfile writes two for every 64 KiB, so that they are those
/// of 64 GiB of compressed pages.
pub const FLAT_RECORDS: u64 = 1 << 21;

/// Most counts that are kept of a kdump-compressed dump's bitmap, 8 bytes each: one for 128 MiB up to 64 TiB of memory.
pub const BITMAP_COUNTS: u64 = 1 << 19;
/// Longest BTF in bytes; 7 MiB is much.
pub const BTF_LEN: u64 = 32 << 20;

/// Most typedefs, qualifiers and array dimensions that are followed from one type to the next.
pub const BTF_DEPTH: u32 = 32;

/// Most members of a structure; the record's own field allowed 65535.
pub const BTF_MEMBERS: u64 = 1 << 16;

/// Most anonymous structures inside of one that are searched for a member.
pub const BTF_ANONYMOUS: usize = 256;

/// Most modules that are listed; distribution kernels load up to 300.
pub const MODULES: usize = 2048;

/// Bytes of module symbol tables that are searched in all: a few backtraces through the largest drivers.
pub const MODULE_SYMBOLS_LEN: u64 = 4 << 20;

/// Most CPUs (`NR_CPUS` is at most 8192).
pub const CPUS: u32 = 8192;

/// Most tasks that are visited; each costs a few reads of a few bytes.
pub const TASKS: u64 = 40_000;

/// Most blocked tasks that are described.
pub const BLOCKED_TASKS: usize = 64;

/// Most texts of damaged records that a report shows.
pub const SALVAGE_LINES: u64 = 64;
/// Most entries of an ORC table; distribution kernels have 450,000.
pub const ORC_ENTRIES: u32 = 4_000_000;

/// Most frames of a backtrace.
pub const FRAMES: usize = 64;

/// Most return addresses that are taken from the stack of a CPU without registers.
pub const LEFTOVERS: usize = 32;

/// Places in the code, and ORC entries, that are remembered.
pub const RECENT_PLACES: usize = 128;

/// Most CPUs whose backtraces are made; each reads a page or two of a stack.
pub const TRACED_CPUS: usize = 1024;

/// Most different backtraces that are kept.
pub const TRACES: usize = 128;
